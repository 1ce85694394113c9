"""Hearing what decoders answer while a case is labelled, so that nothing is asked twice.

Each batch of probabilities is turned to 8-bit levels where it lies, on the device. What is kept of a case, or of the
span of it that a process labels, is a byte a voxel (the level of the more probable lesion) and the counts of
`reliability.py`, 4 KiB a decoder. Cost: some passes over each batch, and on a GPU a few more waits for it.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kitsam.ct.body import BodyBox
from kitsam.ct.labels import TARGETS, TUMOR, Target, target_mask
from kitsam.decoding.ask import SliceBoxes
from kitsam.evaluation.answers import Heard
from kitsam.evaluation.reliability import LARGEST, LEVELS
from kitsam.sam.masks import pixels_inside
from kitsam.system.devices import to_device, to_host


@dataclass(frozen=True)
class Listening:
    """Fills its arrays in as answers come; slices are counted from the first one of the case or span."""

    truth: np.ndarray  # (T, H, W) uint8 labels
    levels: np.ndarray  # (T, H, W) uint8, 0 where no lesion decoder was asked
    counts: np.ndarray  # (3, 2, 256) int64: by target in the order of TARGETS, truth and level

    def hear(self, target: Target, first: int, probabilities: Tensor, boxes: SliceBoxes) -> None:
        """`probabilities`: (B, H, W) float32 of slices from `first` on; `boxes`: those asked with, on these slices."""
        part = slice(first, first + len(probabilities))
        levels = (probabilities * LARGEST).round_().to(torch.uint8)
        truth = to_device(torch.from_numpy(np.ascontiguousarray(self.truth[part])), levels.device)
        asked = pixels_inside(boxes.slices, boxes.boxes, levels)
        is_true = target_mask(truth, target)
        counts = [torch.bincount(levels[asked & some], minlength=LEVELS) for some in (~is_true, is_true)]
        self.counts[TARGETS.index(target)] += to_host(torch.stack(counts))
        if target != "roi":
            # A voxel is called the lesion that is more probable.
            np.maximum(self.levels[part], to_host(levels), out=self.levels[part])

    def cut(self, body: BodyBox) -> "Listening":
        """The same, for slices that are cut to the body."""
        return Listening(self.truth[:, body.rows, body.columns], self.levels[:, body.rows, body.columns], self.counts)


def listen(truth: np.ndarray) -> Listening:
    """To a case or a span of it, whose true labels are (T, H, W) uint8."""
    return Listening(truth, np.zeros(truth.shape, np.uint8), np.zeros((len(TARGETS), 2, LEVELS), np.int64))


def heard(levels: np.ndarray, counts: np.ndarray, label: np.ndarray, targets: Collection[Target]) -> Heard:
    """Of a whole case, once its labels are known. `targets`: of the decoders that there are."""
    by_target = {target: counts[number] for number, target in enumerate(TARGETS) if target in targets}
    return Heard(levels[label >= TUMOR], by_target)
