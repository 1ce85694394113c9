import torch
from rounding import additions, assert_close_to_rounding

from kitsam.sam.decoder import random_decoder
from kitsam.sam.masks import inside_boxes, logits_on_slices, slice_probabilities


def test_logits_come_back_to_where_the_slice_was_before_padding():
    logits = torch.full((1, 32, 32), -5.0)
    logits[0, 8:12, 16:24] = 5.0  # in a frame of which the slice fills the upper 20 of 32 rows
    on_slice = logits_on_slices(logits, 100, 160)[0] > 0
    rows, columns = on_slice.nonzero().T
    assert on_slice.shape == (100, 160)
    assert (rows.min(), rows.max() + 1) == (40, 60) and (columns.min(), columns.max() + 1) == (80, 120)


def test_a_pixel_belongs_to_a_box_by_its_center():
    inside = inside_boxes(torch.tensor([[1.0, 0.0, 2.6, 1.4]]), 3, 4)[0]
    assert inside.int().tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_a_decoder_answers_inside_its_boxes_and_the_larger_answer_stands():
    torch.manual_seed(0)
    decoder = random_decoder(2, 16 * 2, 0).eval()
    embeddings = torch.randn(2, 256, 2, 2)
    boxes = torch.tensor([[0.0, 0, 10, 10], [5.0, 5, 20, 20], [0.0, 0, 4, 4]])
    rows = torch.tensor([0, 0, 1])
    together = slice_probabilities(decoder, embeddings, rows, boxes, (20, 20))
    alone = [slice_probabilities(decoder, embeddings, rows[i : i + 1], boxes[i : i + 1], (20, 20)) for i in range(3)]
    assert_close_to_rounding(together, torch.stack(alone).amax(0), additions(decoder.mask_decoder, 2 * 2))
    assert not together[0, :5, 12:].any() and not together[1, 4:].any()
    assert together[0, 7, 7] > 0
    nothing = slice_probabilities(decoder, embeddings, rows[:0], boxes[:0], (20, 20))
    assert nothing.shape == (2, 20, 20) and not nothing.any()
