"""What a decoder is asked and what it should answer, made from stored samples.

The ROI decoder gets its fixed box on every slice; a lesion decoder a jittered box around each kidney, with a lesion or
without, so that it learns to answer "nothing". The answer is drawn at the logits' resolution: a pixel's target is the share of
it that the class covers.

A slice is moved about by whole cells of its embedding, which costs a copy and is exact but for the encoder's own sense of place.
Without it a decoder that sees few lesions learns where they lay and not what they look like. Boxes and moves depend on
(seed, step, key) alone, so that a resumed run asks the same questions.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from kitsam.config import PromptConfig, Target
from kitsam.kits.case import CYST, KIDNEY, TUMOR
from kitsam.kits.strata import STRATA
from kitsam.sam.decoder import LOGITS_PER_CELL
from kitsam.sam.encoder import PATCH
from kitsam.sam.masks import inside_boxes
from kitsam.sam.prompts import clip, enlarge, find_instances, jitter, roi_box
from kitsam.seeds import generator
from kitsam.shards.reader import Samples
from kitsam.shards.sample import SampleRecord
from kitsam.training.losses import holds_class

ROI_ERROR = 6.0  # mm by which a usable ROI decoder may miss a kidney's outline
FAR_WEIGHT = 0.5  # of a pixel in the box farther from the ROI than that


@dataclass(frozen=True)
class Examples:
    """One process's share of a batch: P questions about B slices."""

    stored: Tensor  # (B, 256, G, G) float16 or int8
    scales: Tensor | None  # (B, 256) float32, of int8
    slice_of_box: Tensor  # (P,) int64, rows of `stored`
    boxes: Tensor  # (P, 4) float32, input pixels
    targets: Tensor  # (P, 4G, 4G) float32 in 0..1
    region: Tensor  # (P, 4G, 4G) float32, how much the answer counts: 0 outside the box, 1 where it matters most
    positive: Tensor  # (P,) float32, 1 where the box holds what is asked for

    def to(self, device: torch.device) -> "Examples":
        tensors = (getattr(self, name) for name in self.__dataclass_fields__)
        return Examples(*(None if tensor is None else tensor.to(device, non_blocking=True) for tensor in tensors))

    def pinned(self) -> "Examples":
        """In memory that a GPU copies from by itself, so that nobody waits for it."""
        tensors = (getattr(self, name) for name in self.__dataclass_fields__)
        return Examples(*(None if tensor is None else tensor.pin_memory() for tensor in tensors))

    def split(self, parts: int) -> list["Examples"]:
        """By slices, as evenly as they go, with their boxes."""
        if parts == 1:
            return [self]
        cut = []
        for rows in torch.arange(len(self.stored)).tensor_split(parts):
            if not len(rows):
                continue
            first, last = int(rows[0]), int(rows[-1]) + 1
            boxes = slice(*torch.searchsorted(self.slice_of_box, torch.tensor([first, last])).tolist())
            asked = (self.boxes[boxes], self.targets[boxes], self.region[boxes], self.positive[boxes])
            scales = None if self.scales is None else self.scales[first:last]
            cut.append(Examples(self.stored[first:last], scales, self.slice_of_box[boxes] - first, *asked))
        return cut


def strata_for(target: Target) -> tuple[str, ...]:
    """A slice without a kidney has no box for a lesion decoder."""
    return STRATA if target == "roi" else tuple(stratum for stratum in STRATA if stratum != "background")


def target_mask(mask: np.ndarray, target: Target) -> np.ndarray:
    """Bool mask of what the decoder `target` must find, from labels."""
    return {"roi": mask > 0, "tumor": mask == TUMOR, "cyst": mask == CYST}[target]


def pixel_size(record: SampleRecord, mask: np.ndarray) -> tuple[float, float]:
    """mm a row and a column of the stored mask; views may be a little larger or smaller."""
    return tuple(mm * native / stored for mm, native, stored in zip(record.spacing[1:], record.native_shape, mask.shape))


def make_examples(
    samples: Samples,
    target: Target,
    config: PromptConfig,
    seed: int,
    step: int,
    shift: float = 0.0,
    lesion_weight: float = 1.0,
) -> Examples:
    """`shift`: largest move of a slice, as a share of its side; the embeddings of moved slices are moved in place.
    `lesion_weight`: how much a lesion's pixel counts for the ROI decoder."""
    grid = samples.stored.shape[-1]
    questions = []
    for record, mask, embedding in zip(samples.records, samples.masks, samples.stored):
        rng = generator(seed, "boxes", step, record.key)
        asked = _questions(record, mask, target, config, grid, lesion_weight, rng)
        cells = _draw_move(mask, shift, grid, rng)
        questions.append(_moved(*asked, cells))
        if cells != (0, 0):
            embedding.copy_(embedding.roll(cells, (1, 2)))
    counts = torch.tensor([len(boxes) for boxes, *_ in questions])
    boxes, targets, region = (torch.cat(parts) for parts in zip(*questions))
    slice_of_box = torch.repeat_interleave(torch.arange(len(counts)), counts)
    return Examples(samples.stored, samples.scales, slice_of_box, boxes, targets, region, holds_class(targets, region))


def _questions(record, mask, target, config, grid, lesion_weight, rng) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes in input pixels (p, 4), targets and regions (p, 4G, 4G) of one slice."""
    height, width = mask.shape
    if target == "roi":
        boxes = roi_box(config, height, width)[None]
    else:
        tight = find_instances((mask > 0)[None], pixel_size(record, mask), config).boxes
        boxes = clip(jitter(enlarge(tight, config.margin), config.jitter, rng), height, width)
    side, logits = max(height, width), LOGITS_PER_CELL * grid
    boxes = torch.from_numpy(boxes)
    region = inside_boxes(boxes * (logits / side), logits, logits).float()
    if target == "roi":
        region *= 1 + (lesion_weight - 1) * _share(mask > KIDNEY, logits)
    else:
        region *= _near_roi(mask, pixel_size(record, mask), logits)
    targets = _share(target_mask(mask, target), logits)
    return boxes * (grid * PATCH / side), targets.expand(len(boxes), -1, -1), region


def _share(mask: np.ndarray, logits: int) -> Tensor:
    """(h, w) bool -> (4G, 4G) in 0..1: how much of each pixel of the padded square the mask covers."""
    height, width = mask.shape
    side = max(height, width)
    padded = F.pad(torch.from_numpy(mask.astype(np.float32)), (0, side - width, 0, side - height))
    return F.interpolate(padded[None, None], (logits, logits), mode="area")[0, 0]


def _near_roi(mask: np.ndarray, pixel: tuple[float, float], logits: int) -> Tensor:
    """(4G, 4G): 1 on the ROI and a little around it, less farther away, where only a wrong ROI lets a lesion be looked for."""
    reach = [2 * round(ROI_ERROR / mm) + 1 for mm in pixel]
    near = ndimage.maximum_filter(mask > 0, size=reach, mode="constant")
    return FAR_WEIGHT + (1 - FAR_WEIGHT) * _share(near, logits)


def _draw_move(mask: np.ndarray, shift: float, grid: int, rng: np.random.Generator) -> tuple[int, int]:
    """Cells to move down and to the right, such that what is labelled stays on the slice."""
    if not shift:
        return 0, 0
    side = max(mask.shape)
    moves = []
    for axis, length in enumerate(mask.shape):
        labelled = np.flatnonzero(mask.any(axis=1 - axis))
        first, last = (labelled[0], labelled[-1] + 1) if len(labelled) else (0, length)
        room = int(first * grid / side), int((length - last) * grid / side)
        farthest = round(shift * grid)
        moves.append(int(rng.integers(-min(farthest, room[0]), min(farthest, room[1]), endpoint=True)))
    return moves[0], moves[1]


def _moved(boxes: Tensor, targets: Tensor, region: Tensor, cells: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (p, 4), targets and regions (p, 4G, 4G) moved by whole cells down and to the right."""
    down, right = cells
    logits = down * LOGITS_PER_CELL, right * LOGITS_PER_CELL
    moved = boxes + torch.tensor([right, down, right, down]) * PATCH
    return moved, targets.roll(logits, (1, 2)), region.roll(logits, (1, 2))
