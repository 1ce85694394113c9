"""Dice over whole validation cases while training, with boxes of the true ROI.

The ROI decoder's own boxes, the native resolution and the official metrics are evaluate's matter; this is the quick
look that decides which decoder is kept. Cases are dealt to the processes and their counts gathered.
"""

from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object

from kitsam.config import PromptConfig, Target
from kitsam.processes import deal
from kitsam.sam.decoder import BoxDecoder
from kitsam.sam.masks import slice_probabilities
from kitsam.sam.prompts import clip, enlarge, find_instances, roi_box
from kitsam.shards.manifest import ShardEntry
from kitsam.shards.reader import Samples, ShardSet
from kitsam.training.examples import pixel_size, target_mask

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
    decoder: BoxDecoder, shards: ShardSet, target: Target, config: PromptConfig, device: torch.device, rank: int, ranks: int
) -> ValidationDice:
    cases = shards.manifest.val
    mine = deal([case.samples for case in cases], ranks)[rank]
    decoder.eval()
    overlaps = [_case_overlap(decoder, shards, cases[index], target, config, device) for index in mine]
    decoder.train()
    overlaps = sorted(map(tuple, gather_object(overlaps) if ranks > 1 else overlaps))
    everything = Overlap("all", *np.sum([counts for _, *counts in overlaps], axis=0).tolist())
    return ValidationDice(float(np.mean([Overlap(*overlap).dice for overlap in overlaps])), everything.dice)


def _case_overlap(decoder, shards: ShardSet, case: ShardEntry, target: Target, config: PromptConfig, device) -> Overlap:
    counts = np.zeros(3, int)
    for first in range(0, case.samples, SLICES_AT_ONCE):
        samples = shards.validation_slices(case, first, SLICES_AT_ONCE)
        mask = np.stack(samples.masks)
        truth = target_mask(mask, target)
        predicted = predict_slices(decoder, samples, mask, target, config, device)
        counts += [(truth & predicted).sum(), truth.sum(), predicted.sum()]
    return Overlap(samples.records[0].case, *counts.tolist())


def predict_slices(decoder, samples: Samples, mask: np.ndarray, target: Target, config: PromptConfig, device) -> np.ndarray:
    """(B, h, w) bool."""
    size = mask.shape[1:]
    if target == "roi":
        slices = np.arange(len(mask))
        boxes = np.tile(roi_box(config, *size), (len(mask), 1))
    else:
        instances = find_instances(mask > 0, pixel_size(samples.records[0], mask[0]), config)
        slices, boxes = instances.slices, clip(enlarge(instances.boxes, config.margin), *size)
    if not len(boxes):
        return np.zeros(mask.shape, bool)
    probabilities = slice_probabilities(
        decoder, samples.embeddings(device), torch.from_numpy(slices).to(device), torch.from_numpy(boxes).to(device), size
    )
    answer = (probabilities > 0.5).cpu().numpy()
    return answer if target == "roi" else answer & (mask > 0)
