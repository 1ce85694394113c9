"""Dice over whole validation cases while training, with boxes of the true ROI.

The ROI decoder's own boxes, the native resolution and the official metrics are evaluate's matter; this is the quick
look that decides which decoder is kept. Cases are dealt to the processes and their counts gathered.
"""

from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object

from kitsam.ct.labels import Target, target_mask
from kitsam.decoding.ask import TargetDecoder, ask, kidney_boxes, roi_boxes
from kitsam.shards.manifest import ShardEntry
from kitsam.shards.reader import Samples, ShardSet
from kitsam.system.processes import deal

SLICES_AT_ONCE = 16


class Overlap(NamedTuple):
    """Voxels of one case."""

    case: str
    both: int
    truth: int
    predicted: int

    @property
    def dice(self) -> float:
        """1 where both are empty, as the official metric has it."""
        return 2 * self.both / (self.truth + self.predicted) if self.truth + self.predicted else 1.0


class ValidationDice(NamedTuple):
    dice: float  # mean of the cases'
    dice_pooled: float  # of all cases' voxels together


def validate(
    target_decoder: TargetDecoder, shards: ShardSet, target: Target, device: torch.device, rank: int, ranks: int
) -> ValidationDice:
    """Dice of the decoder over all validation cases, of which this process takes its share."""
    cases = shards.manifest.val
    mine = deal([case.samples for case in cases], ranks)[rank]
    target_decoder.decoder.eval()
    overlaps = [_case_overlap(target_decoder, shards, cases[index], target, device) for index in mine]
    target_decoder.decoder.train()
    overlaps = sorted(map(tuple, gather_object(overlaps) if ranks > 1 else overlaps))
    everything = Overlap("all", *np.sum([counts for _, *counts in overlaps], axis=0).tolist())
    return ValidationDice(float(np.mean([Overlap(*overlap).dice for overlap in overlaps])), everything.dice)


def _case_overlap(
    target_decoder: TargetDecoder, shards: ShardSet, case: ShardEntry, target: Target, device: torch.device
) -> Overlap:
    counts = np.zeros(3, int)
    for first in range(0, case.samples, SLICES_AT_ONCE):
        samples = shards.validation_slices(case, first, SLICES_AT_ONCE)
        mask = np.stack(samples.masks)
        truth = target_mask(mask, target)
        predicted = predict_slices(target_decoder, samples, mask, target, device)
        counts += [(truth & predicted).sum(), truth.sum(), predicted.sum()]
    return Overlap(samples.records[0].case, *counts.tolist())


def predict_slices(
    target_decoder: TargetDecoder,
    samples: Samples,
    mask: np.ndarray,  # (B, h, w) uint8 labels of the samples
    target: Target,
    device: torch.device,
) -> np.ndarray:
    """(B, h, w) bool: where the decoder sees its target; a lesion decoder is asked inside the true ROI."""
    size = mask.shape[1:]
    if target == "roi":
        boxes = roi_boxes(target_decoder.prompt, len(mask), size)
    else:
        boxes = kidney_boxes(mask > 0, samples.records[0].pixel_of(mask[0]), target_decoder.prompt)
    if not len(boxes.slices):
        return np.zeros(mask.shape, bool)
    answer = (ask(target_decoder.decoder, samples.embeddings(device), boxes, size) > 0.5).cpu().numpy()
    return answer if target == "roi" else answer & (mask > 0)
