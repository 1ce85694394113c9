"""Dice over whole validation cases while training, with boxes of the true ROI.

The ROI decoder's own boxes, the native resolution and the official metrics are evaluate's matter; this is the quick
look that decides which decoder is kept. Cases are dealt to the processes and their counts gathered. As in the official
metrics, a case in which truth and prediction are both empty counts 1; so that this never rewards saying nothing, a
decoder that finds no voxel of what is there counts 0 when the best one is chosen, and where no case holds what is to
be found there is no Dice.
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object

from kitsam.ct.labels import TARGET_CLASSES, Target, target_mask
from kitsam.decoding.ask import TargetDecoder, ask, kidney_boxes, roi_boxes
from kitsam.shards.manifest import ShardEntry
from kitsam.shards.reader import Samples, ShardSet
from kitsam.system.devices import to_host
from kitsam.system.processes import deal
from kitsam.system.watch import Watch

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
    """None where no validation case holds what the decoder must find."""

    dice: float | None  # mean of the cases'
    dice_pooled: float | None  # of all cases' voxels together
    finds: bool  # one right voxel at least

    def score(self, select: Literal["dice", "dice_pooled"]) -> float | None:
        """What decoders are compared by: the selected Dice, 0 for one that finds nothing."""
        value = getattr(self, select)
        return value if self.finds or value is None else 0.0


def can_validate(shards: ShardSet, target: Target) -> bool:
    """Whether a validation case holds what the decoder must find; without one its Dice says nothing."""
    samples = (sample for shard in shards.manifest.val for sample in shards.index(shard).samples)
    return any(sample.pixels[number] for sample in samples for number in TARGET_CLASSES[target])


def validate(
    target_decoder: TargetDecoder,
    shards: ShardSet,
    target: Target,
    device: torch.device,
    rank: int,
    ranks: int,
    watch: Watch,
) -> ValidationDice:
    """Dice of the decoder over all validation cases, of which this process takes its share."""
    cases = shards.manifest.val
    mine = deal([case.samples for case in cases], ranks)[rank]
    target_decoder.decoder.eval()
    overlaps = [_case_overlap(target_decoder, shards, cases[index], target, device, watch) for index in mine]
    target_decoder.decoder.train()
    overlaps = sorted(map(tuple, gather_object(overlaps) if ranks > 1 else overlaps))
    everything = Overlap("all", *np.sum([counts for _, *counts in overlaps], axis=0).tolist())
    if not everything.truth:
        return ValidationDice(None, None, finds=False)
    dice = float(np.mean([Overlap(*overlap).dice for overlap in overlaps]))
    return ValidationDice(dice, everything.dice, finds=everything.both > 0)


def _case_overlap(
    target_decoder: TargetDecoder,
    shards: ShardSet,
    case: ShardEntry,
    target: Target,
    device: torch.device,
    watch: Watch,
) -> Overlap:
    counts = np.zeros(3, int)
    for first in range(0, case.samples, SLICES_AT_ONCE):
        with watch.waiting():
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
    answer = to_host(ask(target_decoder.decoder, samples.embeddings(device), boxes, size) > 0.5)
    return answer if target == "roi" else answer & (mask > 0)
