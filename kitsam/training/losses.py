"""Weighted Dice and cross-entropy, box by box.

Both look at the box's own region, so that a small kidney counts as much as a large one. Cross-entropy is averaged over
all boxes of the global batch, Dice over those that hold the class: on an empty box Dice says the same of one wrong
pixel as of a thousand, and drives a decoder to answer "nothing" everywhere.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

SMOOTHING = 1.0  # pixels of the logits; keeps a class of less than a pixel from ruling a batch


class BoxLosses(NamedTuple):
    dice: Tensor  # (P,), 0 where the box does not hold the class
    cross_entropy: Tensor  # (P,)


def holds_class(targets: Tensor, region: Tensor) -> Tensor:
    """(P,) float: 1 where the box holds the class."""
    return ((targets * region).sum((1, 2)) > 0).float()


def box_losses(logits: Tensor, targets: Tensor, region: Tensor, positive: Tensor, positive_weight: float) -> BoxLosses:
    """Losses of P boxes.

    logits, targets in 0..1 and region, which says how much a pixel counts: (P, L, L); positive: (P,), from
    `holds_class`; `positive_weight` weighs positive pixels in the cross-entropy.
    """
    return BoxLosses(
        _dice(logits, targets, region) * positive, _cross_entropy(logits, targets, region, positive_weight)
    )


def _dice(logits: Tensor, targets: Tensor, region: Tensor) -> Tensor:
    probabilities = logits.sigmoid()
    # A pixel's weight counts once on both sides of the fraction, so that Dice stays within 0 and 1.
    overlap = (region * probabilities * targets).sum((1, 2))
    total = (region * (probabilities + targets)).sum((1, 2))
    return 1 - (2 * overlap + SMOOTHING) / (total + SMOOTHING)


def _cross_entropy(logits: Tensor, targets: Tensor, region: Tensor, positive_weight: float) -> Tensor:
    weights = region * (1 + (positive_weight - 1) * targets)
    losses = F.binary_cross_entropy_with_logits(logits, targets, weights, reduction="none")
    return losses.sum((1, 2)) / weights.sum((1, 2)).clamp(min=1)
