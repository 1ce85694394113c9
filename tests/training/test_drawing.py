"""What is drawn on the device for a whole batch is what is drawn slice by slice on the CPU."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_close_to_rounding
from training.drawn_samples import ask, samples
from training.plain_questions import plain_questions

from kitsam.decoding.config import PromptConfig
from kitsam.training.drawing import draw_answers, move
from kitsam.training.losses import holds_class

SIDES = st.integers(9, 72)


def blobs(height: int, width: int, seed: int) -> np.ndarray:
    """(height, width) uint8: some rectangles of each class, on one slice in six none."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    for label in (1, 1, 2, 3) if seed % 6 else ():
        y, x = rng.integers(0, height), rng.integers(0, width)
        mask[y : y + rng.integers(1, height), x : x + rng.integers(1, width)] = label
    return mask


@pytest.mark.parametrize("target", ["roi", "tumor", "cyst"])
@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.tuples(SIDES, SIDES, st.integers(0, 999)), min_size=1, max_size=4),
    grid=st.integers(1, 9),
    pixel=st.tuples(st.floats(0.5, 9), st.floats(0.5, 9)),
    shift=st.sampled_from([0.0, 0.3]),
    step=st.integers(0, 99),
)
def test_a_batch_of_any_sizes_gets_what_each_slice_alone_would(target, shapes, grid, pixel, shift, step):
    batch = samples(*(blobs(*shape) for shape in shapes), grid=grid, pixel=pixel)
    batch.stored.copy_(torch.randn(batch.stored.shape, generator=torch.Generator().manual_seed(0)))
    if target != "roi" and not any(mask.any() for mask in batch.masks):
        return
    prompt = PromptConfig(roi_box=(0.1, 0.2, 0.9, 0.95))
    expected = plain_questions(batch, target, prompt, 0, step, shift, 3.0)
    questions, answers = ask(batch, target, prompt, step, shift, 3.0)
    assert questions.moves.tolist() == list(map(list, expected.moves))
    assert torch.equal(answers.boxes, expected.boxes)
    assert torch.equal(move(questions.stored, questions.moves), expected.embeddings)
    assert_close_to_rounding(answers.targets, expected.targets, 1, size=1.0)
    assert_close_to_rounding(answers.region, expected.region, 1, size=3.0)
    assert torch.equal(answers.positive, holds_class(expected.targets, expected.region))


def test_masks_of_full_size_are_drawn_to_the_same_bits():
    """Shares of 2 x 2 pixels are exact."""
    mask = np.zeros((512, 512), np.uint8)
    mask[150:340, 80:210], mask[160:330, 300:430], mask[200:251, 90:141], mask[201:230, 350:371] = 1, 1, 2, 3
    batch = samples(mask, grid=64, pixel=(0.78, 0.78))
    for target in ("roi", "tumor", "cyst"):
        expected = plain_questions(batch, target, PromptConfig(), 0, 7, 0.05, 3.0)
        answers = ask(batch, target, PromptConfig(), 7, 0.05, 3.0)[1]
        assert torch.equal(answers.targets, expected.targets) and torch.equal(answers.region, expected.region)


def test_a_gpu_draws_the_same(device):
    batch = samples(*(blobs(60 + seed, 70, seed) for seed in range(1, 6)), grid=4, pixel=(1.5, 2.0))
    questions, here = ask(batch, "tumor", PromptConfig(), 3, 0.3)
    there = draw_answers(questions.to(device), "tumor", 1.0)
    for ours, theirs in zip(here, there):
        assert_close_to_rounding(theirs, ours, 1)
    assert torch.equal(
        move(questions.to(device).stored, questions.moves.to(device)).cpu(), move(batch.stored, questions.moves)
    )


def test_a_slice_is_drawn_alike_beside_a_larger_one():
    small, large = np.ones((20, 30), np.uint8), np.ones((64, 64), np.uint8)
    questions, expected = ask(samples(small, large), "tumor", PromptConfig())
    assert not questions.masks[0, 20:].any() and not questions.masks[0, :, 30:].any()
    alone = ask(samples(small), "tumor", PromptConfig())[1]
    assert all(torch.equal(both[:1], one) for both, one in zip(expected, alone))
