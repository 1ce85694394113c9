"""What a decoder is asked and what it should answer, made from stored samples.

The ROI decoder gets its fixed box on every slice; a lesion decoder a jittered box around each kidney, with a lesion or
without, so that it learns to answer "nothing". The answer is drawn at the logits' resolution: a pixel's target is the
share of it that the class covers.

A slice is moved about by whole cells of its embedding, which costs a copy and is exact but for the encoder's own sense
of place. Without it a decoder that sees few lesions learns where they lay and not what they look like. Boxes and moves
depend on (seed, step, key) alone, so that a resumed run asks the same questions.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from kitsam.ct.instances import find_instances
from kitsam.ct.labels import KIDNEY, Target, target_mask
from kitsam.decoding.ask import roi_box
from kitsam.decoding.config import PromptConfig
from kitsam.sam.boxes import clip, enlarge, jitter
from kitsam.sam.decoder import LOGITS_PER_CELL
from kitsam.sam.masks import inside_boxes
from kitsam.shards.reader import Samples
from kitsam.shards.sample import SampleRecord
from kitsam.system.seeds import generator
from kitsam.training.losses import holds_class

ROI_ERROR = 6.0  # mm by which a usable ROI decoder may miss a kidney's outline
FAR_WEIGHT = 0.5  # of a pixel in the box farther from the ROI than that


@dataclass(frozen=True)
class Questions:
    """One process's share of a batch: P questions about B slices."""

    stored: Tensor  # (B, 256, G, G) float16 or int8
    scales: Tensor | None  # (B, 256) float32, of int8
    slice_of_box: Tensor  # (P,) int64, rows of `stored`
    boxes: Tensor  # (P, 4) float32, in cells of the embedding
    targets: Tensor  # (P, 4G, 4G) float32 in 0..1
    region: Tensor  # (P, 4G, 4G) float32, how much the answer counts: 0 outside the box, 1 where it matters most
    positive: Tensor  # (P,) float32, 1 where the box holds what is asked for

    def to(self, device: torch.device) -> "Questions":
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Questions":
        """In memory that a GPU copies from by itself, so that nobody waits for it."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Questions":
        changed = {
            one.name: None if (tensor := getattr(self, one.name)) is None else change(tensor) for one in fields(self)
        }
        return Questions(**changed)

    def split(self, parts: int) -> list["Questions"]:
        """By slices, as evenly as they go, with their boxes."""
        if parts == 1:
            return [self]
        bounds = [rows[[0, -1]].tolist() for rows in torch.arange(len(self.stored)).tensor_split(parts) if len(rows)]
        return [self._about(first, last + 1) for first, last in bounds]

    def _about(self, first: int, stop: int) -> "Questions":
        """The questions about slices `first` to `stop`."""
        boxes = slice(*torch.searchsorted(self.slice_of_box, torch.tensor([first, stop])).tolist())
        return Questions(
            stored=self.stored[first:stop],
            scales=None if self.scales is None else self.scales[first:stop],
            slice_of_box=self.slice_of_box[boxes] - first,
            boxes=self.boxes[boxes],
            targets=self.targets[boxes],
            region=self.region[boxes],
            positive=self.positive[boxes],
        )


def draw_questions(
    samples: Samples,
    target: Target,
    prompt: PromptConfig,
    seed: int,
    step: int,
    shift: float = 0.0,
    lesion_weight: float = 1.0,
) -> Questions:
    """`shift`: largest move of a slice, as a share of its side; the embeddings of moved slices are moved in place.
    `lesion_weight`: how much a lesion's pixel counts for the ROI decoder.
    """
    grid = samples.stored.shape[-1]
    questions = []
    for record, mask, embedding in zip(samples.records, samples.masks, samples.stored):
        rng = generator(seed, "boxes", step, record.key)
        boxes = _draw_boxes(record, mask, target, prompt, rng)
        move = _draw_move(mask, shift, grid, rng)
        questions.append(_moved(*_question(record, mask, boxes, target, grid, lesion_weight), move))
        if move != (0, 0):
            embedding.copy_(embedding.roll(move, (1, 2)))
    counts = torch.tensor([len(boxes) for boxes, *_ in questions])
    boxes, targets, region = (torch.cat(parts) for parts in zip(*questions))
    slice_of_box = torch.repeat_interleave(torch.arange(len(counts)), counts)
    return Questions(samples.stored, samples.scales, slice_of_box, boxes, targets, region, holds_class(targets, region))


def _draw_boxes(
    record: SampleRecord, mask: np.ndarray, target: Target, prompt: PromptConfig, rng: np.random.Generator
) -> np.ndarray:
    """(p, 4) float32 in pixels of the mask: the ROI's box, or one around each kidney, its sides moved at random."""
    if target == "roi":
        return roi_box(prompt, *mask.shape)[None]
    tight = find_instances((mask > 0)[None], record.pixel_of(mask), prompt.merge, prompt.smallest).boxes
    return clip(jitter(enlarge(tight, prompt.margin), prompt.jitter, rng), *mask.shape)


def _question(
    record: SampleRecord,
    mask: np.ndarray,  # (h, w) uint8 labels
    boxes: np.ndarray,  # (p, 4) in pixels of the mask
    target: Target,
    grid: int,
    lesion_weight: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes in cells (p, 4), targets and regions (p, 4G, 4G) of one slice."""
    side, logits = max(mask.shape), LOGITS_PER_CELL * grid
    corners = torch.from_numpy(boxes)
    region = inside_boxes(corners * (logits / side), logits, logits).float()
    if target == "roi":
        region *= 1 + (lesion_weight - 1) * _share(mask > KIDNEY, logits)
    else:
        region *= _near_roi(mask, record.pixel_of(mask), logits)
    targets = _share(target_mask(mask, target), logits)
    return corners * (grid / side), targets.expand(len(corners), -1, -1), region


def _share(mask: np.ndarray, logits: int) -> Tensor:
    """(h, w) bool -> (4G, 4G) in 0..1: how much of each pixel of the padded square the mask covers."""
    height, width = mask.shape
    side = max(height, width)
    padded = F.pad(torch.from_numpy(mask.astype(np.float32)), (0, side - width, 0, side - height))
    return F.interpolate(padded[None, None], (logits, logits), mode="area")[0, 0]


def _near_roi(mask: np.ndarray, pixel: tuple[float, float], logits: int) -> Tensor:
    """(4G, 4G): 1 on the ROI and a little around it, less where only a wrong ROI would have a lesion looked for."""
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


def _moved(boxes: Tensor, targets: Tensor, region: Tensor, move: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes in cells (p, 4), targets and regions (p, 4G, 4G) moved by whole cells down and to the right."""
    down, right = move
    logits = down * LOGITS_PER_CELL, right * LOGITS_PER_CELL
    corners = boxes + torch.tensor([right, down, right, down])
    return corners, targets.roll(logits, (1, 2)), region.roll(logits, (1, 2))
