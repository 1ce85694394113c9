"""What is kept of decoders' answers, against all probabilities kept whole."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kitsam.ct.body import BodyBox
from kitsam.ct.labels import TARGETS
from kitsam.decoding.ask import SliceBoxes
from kitsam.evaluation.listening import heard, listen

SHAPE = (5, 9, 11)


def drawn(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, SliceBoxes]]:
    """True labels, and by target probabilities and boxes, which overlap and reach beyond the slice."""
    rng = np.random.default_rng(seed)
    boxes = {}
    for target in TARGETS:
        slices = np.sort(rng.integers(0, SHAPE[0], 4))
        corners = np.sort(rng.uniform(-1, 12, (4, 2, 2)), axis=1).reshape(4, 4)
        boxes[target] = SliceBoxes(slices, corners.astype(np.float32))
    probabilities = {target: rng.random(SHAPE, np.float32) for target in TARGETS}
    for target in TARGETS:
        probabilities[target][~inside(boxes[target])] = 0
    return rng.integers(0, 4, SHAPE).astype(np.uint8), probabilities, boxes


def inside(boxes: SliceBoxes) -> np.ndarray:
    """Pixel by pixel: whether its center lies in a box."""
    mask = np.zeros(SHAPE, bool)
    y, x = np.indices(SHAPE[1:]) + 0.5
    for z, (x0, y0, x1, y1) in zip(boxes.slices, boxes.boxes):
        mask[z] |= (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    return mask


@given(st.integers(0, 10**6), st.integers(1, 5))
@settings(deadline=None)
def test_batches_add_up_to_the_whole_case(seed, batch):
    truth, probabilities, boxes = drawn(seed)
    listening = listen(truth)
    for first in range(0, SHAPE[0], batch):
        for target in TARGETS:
            part = torch.from_numpy(probabilities[target][first : first + batch])
            listening.hear(target, first, part, boxes[target].within(first, len(part)))
    levels = {target: np.rint(probabilities[target] * 255).astype(int) for target in TARGETS}
    assert np.array_equal(listening.levels, np.maximum(levels["tumor"], levels["cyst"]))
    is_target = {"roi": truth > 0, "tumor": truth == 2, "cyst": truth == 3}
    for number, target in enumerate(TARGETS):
        for yes in (False, True):
            counted = levels[target][inside(boxes[target]) & (is_target[target] == yes)]
            assert np.array_equal(listening.counts[number, int(yes)], np.bincount(counted, minlength=256))


@pytest.mark.parametrize("turn", [lambda truth: truth, lambda truth: np.asfortranarray(truth)[::-1]])
def test_slices_cut_to_the_body_are_heard_at_their_place(turn):
    truth, probabilities, _ = drawn(0)
    truth, body = turn(truth), BodyBox(2, 3, 8, 10)
    listening = listen(truth)
    whole = SliceBoxes(np.arange(SHAPE[0]), np.tile(np.float32([0, 0, 7, 6]), (SHAPE[0], 1)))
    listening.cut(body).hear("tumor", 0, torch.from_numpy(body.cut(probabilities["tumor"])), whole)
    expected = np.zeros(SHAPE, np.uint8)
    expected[:, 2:8, 3:10] = np.rint(probabilities["tumor"] * 255)[:, 2:8, 3:10]
    assert np.array_equal(listening.levels, expected)
    assert listening.counts[1, 1].sum() == (truth[:, 2:8, 3:10] == 2).sum()


def test_what_is_heard_comes_back_at_the_voxels_called_a_lesion():
    rng = np.random.default_rng(0)
    label, levels = rng.integers(0, 4, SHAPE).astype(np.uint8), rng.integers(0, 256, SHAPE).astype(np.uint8)
    listening = listen(label)
    some = heard(levels, listening.counts, label, ("roi", "tumor"))
    assert len(some.levels) == (label >= 2).sum() and list(some.counts) == ["roi", "tumor"]
    for order in ("C", "F"):
        assert np.array_equal(some.volume(np.array(label, order=order)), np.where(label >= 2, levels, 0))
