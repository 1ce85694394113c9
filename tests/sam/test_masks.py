import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from rounding import additions, assert_close_to_rounding

from kitsam.sam.decoder import random_decoder
from kitsam.sam.masks import inside_boxes, logits_on_slices, raise_probabilities


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
    boxes = np.array([[0, 0, 10, 10], [5, 5, 20, 20], [0, 0, 4, 4]], np.float32)
    rows = np.array([0, 0, 1])

    def answer(some: slice) -> torch.Tensor:
        probabilities = torch.zeros(2, 20, 20)
        raise_probabilities(probabilities, decoder, embeddings, rows[some], boxes[some])
        return probabilities

    together = answer(slice(None))
    alone = [answer(slice(i, i + 1)) for i in range(3)]
    assert_close_to_rounding(together, torch.stack(alone).amax(0), additions(decoder.mask_decoder, 2 * 2))
    assert not together[0, :5, 12:].any() and not together[1, 4:].any()
    assert together[0, 7, 7] > 0
    assert not answer(slice(0, 0)).any()


def whole_slices(decoder, embeddings, rows, boxes, size):
    """The same by whole slices: each answer times the inside of its box, then the largest of a slice."""
    rows, boxes = torch.from_numpy(rows), torch.from_numpy(boxes)
    logits = logits_on_slices(decoder(embeddings, rows, boxes), *size)
    answers = logits.sigmoid() * inside_boxes(boxes, *size)
    probabilities = torch.zeros(len(embeddings), *size)
    return probabilities.scatter_reduce(0, rows[:, None, None].expand_as(answers), answers, "amax")


side = st.floats(0, 24, width=32)


@given(st.lists(st.tuples(st.integers(0, 2), side, side, side, side), min_size=1, max_size=5), st.integers(0, 9))
def test_box_by_box_is_bit_for_bit_what_whole_slices_give(boxes, seed):
    rows = np.array([row for row, *_ in boxes])
    corners = np.array([[min(a, c), min(b, d), max(a, c), max(b, d)] for _, a, b, c, d in boxes], np.float32)
    logits = torch.randn(len(rows), 24, 24, generator=torch.Generator().manual_seed(seed))
    embeddings, size = torch.zeros(3, 256, 6, 6), (20, 24)

    def decoder(embeddings, rows, boxes, asked=None, sights=None):
        """Wrong in all cells that are not asked about."""
        right = torch.full((len(rows) * 36,), asked is None)
        right[slice(0) if asked is None else asked] = True
        right = right.view(-1, 6, 6).repeat_interleave(4, 1).repeat_interleave(4, 2)
        return logits.where(right, 1e3)

    decoder.sight = None  # whole slices
    probabilities = torch.zeros(3, *size)
    raise_probabilities(probabilities, decoder, embeddings, rows, corners)
    assert torch.equal(probabilities, whole_slices(decoder, embeddings, rows, corners, size))
