"""What a decoder is asked and what it should answer, made from stored samples.

The ROI decoder gets its fixed box on every slice; a lesion decoder a jittered box around each kidney, with a lesion or
without, so that it learns to answer "nothing". The answer is drawn at the logits' resolution: a pixel's target is the share of
it that the class covers. Boxes depend on (seed, step, key) alone, so that a resumed run asks the same questions.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kitsam.config import PromptConfig, Target
from kitsam.kits.case import CYST, TUMOR
from kitsam.kits.strata import STRATA
from kitsam.sam.decoder import LOGITS_PER_CELL
from kitsam.sam.encoder import PATCH
from kitsam.sam.masks import inside_boxes
from kitsam.sam.prompts import clip, enlarge, find_instances, jitter, roi_box
from kitsam.seeds import generator
from kitsam.shards.reader import Samples
from kitsam.shards.sample import SampleRecord


@dataclass(frozen=True)
class Examples:
    """One process's share of a batch: P questions about B slices."""

    embeddings: Tensor  # (B, 256, G, G) float16
    slice_of_box: Tensor  # (P,) int64, rows of `embeddings`
    boxes: Tensor  # (P, 4) float32, input pixels
    targets: Tensor  # (P, 4G, 4G) float32 in 0..1
    region: Tensor  # (P, 4G, 4G) float32, 1 where the answer counts

    def to(self, device: torch.device) -> "Examples":
        return Examples(*(getattr(self, name).to(device, non_blocking=True) for name in self.__dataclass_fields__))


def strata_for(target: Target) -> tuple[str, ...]:
    """A slice without a kidney has no box for a lesion decoder."""
    return STRATA if target == "roi" else tuple(stratum for stratum in STRATA if stratum != "background")


def target_mask(mask: np.ndarray, target: Target) -> np.ndarray:
    """Bool mask of what the decoder `target` must find, from labels."""
    return {"roi": mask > 0, "tumor": mask == TUMOR, "cyst": mask == CYST}[target]


def pixel_size(record: SampleRecord, mask: np.ndarray) -> tuple[float, float]:
    """mm a row and a column of the stored mask; views may be a little larger or smaller."""
    return tuple(mm * native / stored for mm, native, stored in zip(record.spacing[1:], record.native_shape, mask.shape))


def make_examples(samples: Samples, target: Target, config: PromptConfig, seed: int, step: int) -> Examples:
    grid = samples.embeddings.shape[-1]
    questions = [
        _questions(record, mask, target, config, grid, generator(seed, "boxes", step, record.key))
        for record, mask in zip(samples.records, samples.masks)
    ]
    counts = torch.tensor([len(boxes) for boxes, *_ in questions])
    boxes, targets, region = (torch.cat(parts) for parts in zip(*questions))
    return Examples(samples.embeddings, torch.repeat_interleave(torch.arange(len(counts)), counts), boxes, targets, region)


def _questions(record, mask, target, config, grid, rng) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes in input pixels (p, 4), targets and regions (p, 4G, 4G) of one slice."""
    height, width = mask.shape
    if target == "roi":
        boxes = roi_box(config, height, width)[None]
    else:
        tight = find_instances((mask > 0)[None], pixel_size(record, mask), config).boxes
        boxes = clip(jitter(enlarge(tight, config.margin), config.jitter, rng), height, width)
    side, logits = max(height, width), LOGITS_PER_CELL * grid
    answer = torch.from_numpy(target_mask(mask, target).astype(np.float32))
    padded = F.pad(answer, (0, side - width, 0, side - height))
    targets = F.interpolate(padded[None, None], (logits, logits), mode="area")[0]
    boxes = torch.from_numpy(boxes)
    region = inside_boxes(boxes * (logits / side), logits, logits).float()
    return boxes * (grid * PATCH / side), targets.expand(len(boxes), -1, -1), region
