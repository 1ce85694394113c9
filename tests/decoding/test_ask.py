import numpy as np
import torch
from rounding import assert_close_to_rounding, roundings

from kitsam.decoding.ask import SliceBoxes, ask, kidney_boxes, roi_box, roi_boxes
from kitsam.decoding.config import PromptConfig
from kitsam.sam.decoder import random_decoder
from kitsam.sam.masks import raise_probabilities

SIZE = (32, 48)  # rows, columns


def test_the_roi_box_is_a_share_of_the_slice():
    assert roi_box(PromptConfig(roi_box=(0, 0.25, 1, 0.75)), 512, 800).tolist() == [0, 128, 800, 384]


def test_every_slice_has_the_roi_box():
    boxes = roi_boxes(PromptConfig(roi_box=(0, 0.25, 1, 1)), 3, SIZE)
    assert boxes.slices.tolist() == [0, 1, 2] and boxes.boxes.tolist() == [[0, 8, 48, 32]] * 3


def test_a_kidneys_box_has_a_margin_and_stays_on_the_slice():
    roi = np.zeros((2, *SIZE), bool)
    roi[1, 10:20, 0:20] = True
    boxes = kidney_boxes(roi, (1.0, 1.0), PromptConfig(margin=0.1))
    assert boxes.slices.tolist() == [1] and boxes.boxes.tolist() == [[0, 9, 22, 21]]


def test_boxes_within_some_slices_are_counted_from_the_first_of_them():
    boxes = SliceBoxes(np.array([0, 2, 2, 5]), np.arange(16, dtype=np.float32).reshape(4, 4))
    within = boxes.within(2, 3)
    assert within.slices.tolist() == [0, 0] and within.boxes.tolist() == boxes.boxes[1:3].tolist()


def test_boxes_asked_a_few_at_a_time_get_the_same_answer(device):
    embeddings = torch.randn(3, 256, 4, 4, generator=torch.Generator().manual_seed(0)).to(device)
    corners = np.array([[0, 0, 20, 20], [10, 10, 40, 30], [5, 5, 30, 30], [0, 0, 48, 32]], np.float32)
    boxes = SliceBoxes(np.array([0, 0, 2, 2]), corners)
    decoder = random_decoder(4, 16 * 4, 0).eval().to(device)
    whole, parts = (ask(decoder, embeddings, boxes, SIZE, at_once) for at_once in (None, 1))
    probabilities = torch.zeros(3, *SIZE, device=device)
    raise_probabilities(probabilities, decoder, embeddings, boxes.slices, corners)
    assert torch.equal(whole, probabilities)
    assert_close_to_rounding(parts, whole, *roundings(decoder.mask_decoder, device, 4 * 4))
    assert not whole[1].any() and whole[0, 5, 5] > 0 and not whole[0, 31].any()


def test_without_boxes_nothing_is_probable():
    nothing = SliceBoxes(np.zeros(0, int), np.zeros((0, 4), np.float32))
    assert not ask(random_decoder(4, 16 * 4, 0).eval(), torch.zeros(2, 256, 4, 4), nothing, SIZE).any()
