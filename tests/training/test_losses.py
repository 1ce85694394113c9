import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from rounding import assert_close_to_rounding

from kitsam.training.losses import BoxLosses, box_losses, holds_class

PIXELS = 4 * 4
EVERYWHERE = torch.ones(1, 4, 4)


def losses_of(logits, targets, region, positive_weight) -> BoxLosses:
    return box_losses(logits, targets, region, holds_class(targets, region), positive_weight)


def corner() -> torch.Tensor:
    targets = torch.zeros(1, 4, 4)
    targets[0, :2, :2] = 1
    return targets


def test_a_sure_and_right_answer_costs_nothing():
    for targets in (corner(), torch.zeros(1, 4, 4)):
        losses = losses_of(40 * (targets - 0.5), targets, EVERYWHERE, 1.0)
        assert_close_to_rounding(losses.dice, [0.0], PIXELS, size=1.0)
        assert_close_to_rounding(losses.cross_entropy, [0.0], PIXELS, size=1.0)


def test_dice_is_asked_of_boxes_that_hold_the_class_only():
    targets = torch.cat([corner(), torch.zeros(1, 4, 4)])
    losses = losses_of(torch.zeros(2, 4, 4), targets, EVERYWHERE.expand(2, -1, -1), 1.0)
    assert holds_class(targets, EVERYWHERE).tolist() == [1, 0] and losses.dice[0] > 0 and losses.dice[1] == 0
    assert losses.cross_entropy[1] > 0.5


def test_by_hand():
    losses = losses_of(torch.zeros(1, 4, 4), corner(), EVERYWHERE, 1.0)
    # 16 pixels of probability 1/2, 4 of them positive.
    assert_close_to_rounding(losses.dice, [1 - (2 * 2 + 1) / (8 + 4 + 1)], PIXELS)
    assert_close_to_rounding(losses.cross_entropy, [math.log(2)], PIXELS)


def test_what_lies_outside_the_region_does_not_count():
    region = torch.zeros(1, 4, 4)
    region[0, :, :3] = 1
    logits = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))
    other = logits.clone()
    other[0, :, 3] = 9
    for first, second in zip(losses_of(logits, corner(), region, 3.0), losses_of(other, corner(), region, 3.0)):
        assert torch.equal(first, second)


@given(heavy=st.floats(1, 5), seed=st.integers(0, 99))
def test_what_counts_more_leaves_dice_within_0_and_1_and_every_pixel_drawn_to_its_class(heavy, seed):
    region = torch.ones(1, 4, 4)
    region[0, :2, 0] = heavy
    logits = (2 * torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(seed))).requires_grad_()
    (dice,) = losses_of(logits, corner(), region, 1.0).dice
    dice.backward()
    assert 0 <= dice.item() <= 1
    assert (logits.grad[corner() == 1] < 0).all() and (logits.grad[corner() == 0] > 0).all()


def test_a_weight_is_as_good_as_so_many_pixels():
    wide = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(3))
    wide[..., 4:] = wide[..., :1]  # the first column five times
    targets = corner()[..., [0, 1, 2, 3, 0, 0, 0, 0]]
    region = EVERYWHERE.clone()
    region[..., 0] = 5
    weighed = losses_of(wide[..., :4], corner(), region, 1.0)
    repeated = losses_of(wide, targets, torch.ones(1, 4, 8), 1.0)
    for one, other in zip(weighed, repeated):
        assert_close_to_rounding(one, other, 2 * PIXELS)


def test_the_positive_weight_weighs_missed_positives_against_false_ones():
    missed = losses_of(torch.full((1, 4, 4), -2.0), corner(), EVERYWHERE, 1.0).cross_entropy
    missed_weighed = losses_of(torch.full((1, 4, 4), -2.0), corner(), EVERYWHERE, 12.0).cross_entropy
    assert missed_weighed > 1.5 * missed


def test_boxes_do_not_mix():
    logits = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(1))
    targets = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(2))
    together = losses_of(logits, targets, EVERYWHERE.expand(3, -1, -1), 2.0)
    for row in range(3):
        alone = losses_of(logits[row : row + 1], targets[row : row + 1], EVERYWHERE, 2.0)
        assert_close_to_rounding(together.dice[row : row + 1], alone.dice, PIXELS)
        assert_close_to_rounding(together.cross_entropy[row : row + 1], alone.cross_entropy, PIXELS)


def test_an_empty_region_costs_nothing_and_breaks_nothing():
    logits = torch.randn(1, 4, 4, requires_grad=True)
    losses = losses_of(logits, corner(), torch.zeros(1, 4, 4), 2.0)
    (losses.dice + losses.cross_entropy).sum().backward()
    assert losses.dice.item() == losses.cross_entropy.item() == 0 and logits.grad.isfinite().all()
