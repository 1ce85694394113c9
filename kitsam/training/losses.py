"""Weighted Dice and cross-entropy, box by box.

Both are means over the box's own region, so that a small kidney counts as much as a large one, and sums over boxes are
divided by the number of boxes in the global batch: the loss does not depend on how boxes fall to processes.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

SMOOTHING = 1.0  # pixels of the logits; makes "nothing" a right answer of loss zero where nothing is


class BoxLosses(NamedTuple):
    dice: Tensor  # (P,)
    cross_entropy: Tensor  # (P,)


def box_losses(logits: Tensor, targets: Tensor, region: Tensor, positive_weight: float) -> BoxLosses:
    """All (P, L, L): logits, targets in 0..1, region 0 or 1. `positive_weight` weighs positive pixels in the cross-entropy."""
    return BoxLosses(_dice(logits, targets, region), _cross_entropy(logits, targets, region, positive_weight))


def _dice(logits: Tensor, targets: Tensor, region: Tensor) -> Tensor:
    probabilities = logits.sigmoid() * region
    targets = targets * region
    overlap = (probabilities * targets).sum((1, 2))
    total = probabilities.sum((1, 2)) + targets.sum((1, 2))
    return 1 - (2 * overlap + SMOOTHING) / (total + SMOOTHING)


def _cross_entropy(logits: Tensor, targets: Tensor, region: Tensor, positive_weight: float) -> Tensor:
    weights = region * (1 + (positive_weight - 1) * targets)
    losses = F.binary_cross_entropy_with_logits(logits, targets, weights, reduction="none")
    return losses.sum((1, 2)) / weights.sum((1, 2)).clamp(min=1)
