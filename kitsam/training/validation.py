"""Dice over whole validation cases while training, with boxes of the true ROI.

The ROI decoder's own boxes, the native resolution and the official metrics are evaluate's matter; this is the quick
look that decides which decoder is kept. Cases are dealt to the processes and their counts gathered; slices are read
ahead, and a GPU is waited for once, when it has been asked about all. As in the official metrics, a case in which truth
and prediction are both empty counts 1; so that this never rewards saying nothing, a decoder that finds no voxel of what
is there counts 0 when the best one is chosen, and where no case holds what is to be found there is no Dice.
"""

from contextlib import closing
from typing import Literal, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from kitsam.ct.labels import TARGET_CLASSES, Target, target_mask
from kitsam.decoding.ask import SliceBoxes, TargetDecoder, ask, boxes_around, roi_boxes
from kitsam.decoding.config import PromptConfig
from kitsam.shards.batches import case_batches
from kitsam.shards.kidneys import KidneyBoxes
from kitsam.shards.manifest import ShardEntry
from kitsam.shards.reader import Samples, ShardSet
from kitsam.system.devices import to_device, to_host
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
    accelerator: Accelerator,
    target_decoder: TargetDecoder,
    kidneys: KidneyBoxes,
    target: Target,
    workers: int,  # threads that read
    watch: Watch,
) -> ValidationDice:
    """Dice of the decoder over all validation cases of the set, of which this process takes its share."""
    cases = kidneys.shards.manifest.val
    ranks = accelerator.num_processes
    mine = [cases[index] for index in deal([case.samples for case in cases], ranks)[accelerator.process_index]]
    target_decoder.decoder.eval()
    with accelerator.autocast():
        counts = _count_voxels(target_decoder, kidneys, mine, target, accelerator.device, workers, watch)
    target_decoder.decoder.train()
    overlaps = [Overlap(case.case, *row) for case, row in zip(mine, counts.tolist())]
    overlaps = sorted(map(tuple, gather_object(overlaps) if ranks > 1 else overlaps))
    everything = Overlap("all", *np.sum([counts for _, *counts in overlaps], axis=0).tolist())
    if not everything.truth:
        return ValidationDice(None, None, finds=False)
    dice = float(np.mean([Overlap(*overlap).dice for overlap in overlaps]))
    return ValidationDice(dice, everything.dice, finds=everything.both > 0)


class _Slices(NamedTuple):
    """Some slices of a case, and the boxes to ask about."""

    case: int
    samples: Samples
    boxes: SliceBoxes


def _count_voxels(
    target_decoder: TargetDecoder,
    kidneys: KidneyBoxes,
    cases: list[ShardEntry],
    target: Target,
    device: torch.device,
    workers: int,
    watch: Watch,
) -> np.ndarray:
    """(cases, 3): voxels in both, of the truth, predicted."""

    def prepare(case: int, samples: Samples) -> _Slices:
        return _Slices(case, samples, boxes_of(samples, kidneys, target, target_decoder.prompt))

    counts = torch.zeros((len(cases), 3), dtype=torch.int64, device=device)
    with closing(case_batches(kidneys.shards, cases, SLICES_AT_ONCE, prepare, workers)) as batches:
        for case, samples, boxes in watch.waiting_for(batches):
            masks = masks_on(device, samples)
            truth, predicted = target_mask(masks, target), predict_slices(target_decoder, samples, masks, boxes, target)
            counts[case] += torch.stack([(truth & predicted).sum(), truth.sum(), predicted.sum()])
    return to_host(counts)


def boxes_of(samples: Samples, kidneys: KidneyBoxes, target: Target, prompt: PromptConfig) -> SliceBoxes:
    """What to ask about slices of one size: the fixed box, or those around the true kidneys."""
    size = samples.masks[0].shape
    if target == "roi":
        return roi_boxes(prompt, len(samples.masks), size)
    tight = kidneys.of(samples)
    slices = np.repeat(np.arange(len(tight)), list(map(len, tight)))
    return boxes_around(SliceBoxes(slices, np.concatenate(tight)), size, prompt)


def masks_on(device: torch.device, samples: Samples) -> Tensor:
    """(B, h, w) uint8 labels of slices of one size."""
    height, width = samples.masks[0].shape
    return to_device(samples.squares, device)[:, :height, :width]


def predict_slices(
    target_decoder: TargetDecoder,
    samples: Samples,
    masks: Tensor,  # (B, h, w) uint8 labels of the samples, on the decoder's device
    boxes: SliceBoxes,
    target: Target,
) -> Tensor:
    """(B, h, w) bool: where the decoder sees its target; a lesion decoder's inside the true ROI."""
    if not len(boxes.slices):
        return torch.zeros_like(masks, dtype=torch.bool)
    answer = ask(target_decoder.decoder, samples.embeddings(masks.device), boxes, masks.shape[1:]) > 0.5
    return answer if target == "roi" else answer & (masks > 0)
