"""What a decoder is asked about stored samples, as it travels to the device.

The ROI decoder gets its fixed box on every slice; a lesion decoder a jittered box around each kidney, with a lesion or
without, so that it learns to answer "nothing". Here only boxes and moves are drawn, some 0.1 ms of a processor a slice;
`drawing.py` makes of them and of the masks what the decoder should answer, on the device.

A slice is moved about by whole cells of its embedding, which costs a copy and is exact but for the encoder's own sense
of place. Without it a decoder that sees few lesions learns where they lay and not what they look like. Boxes and moves
depend on (seed, step, key) alone, so that a resumed run asks the same questions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kitsam.ct.labels import Target
from kitsam.decoding.ask import roi_box
from kitsam.decoding.config import PromptConfig
from kitsam.sam.boxes import cells_inside, clip, enlarge, jitter
from kitsam.sam.sight import Sights, sights_around
from kitsam.shards.kidneys import KidneyBoxes
from kitsam.shards.reader import Samples
from kitsam.system.seeds import generator

ROI_ERROR = 6.0  # mm by which a usable ROI decoder may miss a kidney's outline


class Part(NamedTuple):
    """Some slices of a batch, with their boxes and the cells inside these."""

    slices: slice
    boxes: slice
    asked: slice


@dataclass(frozen=True)
class Questions:
    """One process's share of a batch: P questions about B slices."""

    stored: Tensor  # (B, 256, G, G) float16 or int8
    scales: Tensor | None  # (B, 256) float32, of int8
    masks: Tensor  # (B, S, S) uint8 labels, each slice's in the upper left corner, 0 beside it
    sizes: Tensor  # (B, 2) int64, rows and columns of each mask
    reach: Tensor  # (B, 2) int64, rows and columns of a mask by which the ROI may be missed
    moves: Tensor  # (B, 2) int64, cells by which each slice is to be moved down and to the right
    slice_of_box: Tensor  # (P,) int64, rows of `stored`
    boxes: Tensor  # (P, 4) float32, in cells of the embedding before the move
    boxes_of_slice: tuple[int, ...]  # how many each slice has
    asked: Tensor  # (M,) int64, the cells inside the boxes after the move, as `cells_inside` numbers them
    asked_of_box: tuple[int, ...]  # how many each box has
    weights: Tensor  # (B,) float32, how much each slice counts
    seen: Tensor | None  # (P, 4) int64, of `Sights` after the move; None: whole slices
    window: tuple[int, int]  # rows and columns of `Sights`

    def to(self, device: torch.device) -> "Questions":
        return self.each(lambda name, tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Questions":
        """In memory that a GPU copies from by itself, so that nobody waits for it."""
        return self.each(lambda name, tensor: tensor.pin_memory())

    def each(self, change: Callable[[str, Tensor], Tensor]) -> "Questions":
        """With each tensor changed, by its name."""
        tensors = {one.name: getattr(self, one.name) for one in fields(self)}
        changed = {name: change(name, tensor) for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
        return replace(self, **changed)

    def sights(self, boxes: slice) -> Sights | None:
        """What is seen around some of the boxes."""
        return None if self.seen is None else Sights(self.seen[boxes], *self.window)

    def split(self, parts: int) -> list[Part]:
        """By slices, as evenly as they go, without a look at a tensor."""
        count = len(self.boxes_of_slice)
        starts, cells = ([0, *accumulate(counts)] for counts in (self.boxes_of_slice, self.asked_of_box))
        parts = min(parts, count)
        # The first ones are larger by a slice, where they cannot all be alike.
        bounds = [number * (count // parts) + min(number, count % parts) for number in range(parts + 1)]
        spans = [(first, stop, starts[first], starts[stop]) for first, stop in pairwise(bounds)]
        return [Part(slice(a, b), slice(c, d), slice(cells[c], cells[d])) for a, b, c, d in spans]


def questioner(
    kidneys: KidneyBoxes,
    target: Target,
    prompt: PromptConfig,
    seed: int,
    shift: float,
    weights: Mapping[str, float] | None = None,
) -> Callable[[int, Samples], Questions]:
    """A function that draws the questions of a step about its samples; `weights`: how much each case's slices count."""

    def draw(step: int, samples: Samples) -> Questions:
        boxes = [] if target == "roi" else kidneys.of(samples)
        return draw_questions(samples, boxes, target, prompt, seed, step, shift, weights)

    return draw


def draw_questions(
    samples: Samples,
    kidneys: Sequence[np.ndarray],  # (p, 4) around those of each slice, in pixels of its mask; not for the ROI decoder
    target: Target,
    prompt: PromptConfig,
    seed: int,
    step: int,
    shift: float = 0.0,
    weights: Mapping[str, float] | None = None,  # by case
) -> Questions:
    """`shift`: largest move of a slice, as a share of its side."""
    grid = samples.stored.shape[-1]
    shapes = np.array([mask.shape for mask in samples.masks])
    draws = [generator(seed, "boxes", step, record.key) for record in samples.records]
    if target == "roi":
        boxes = [roi_box(prompt, *shape)[None] for shape in shapes]
    else:
        boxes = _draw_boxes(kidneys, shapes, prompt, draws)
    counts = tuple(map(len, boxes))
    cells = (grid / shapes.max(axis=1)).astype(np.float32)  # a pixel of each mask
    moves = [_draw_move(mask, shift, grid, rng) for mask, rng in zip(samples.masks, draws)]
    reach = [
        [round(ROI_ERROR / mm) for mm in record.pixel_of(mask)] for record, mask in zip(samples.records, samples.masks)
    ]
    corners = np.concatenate(boxes) * np.repeat(cells, counts)[:, None]
    down_right = np.repeat(np.array(moves)[:, [1, 0, 1, 0]], counts, axis=0)
    asked, asked_of_box = cells_inside(corners + down_right, grid)
    sights = None if prompt.sight is None else sights_around(corners + down_right, grid, prompt.sight)
    return Questions(
        stored=samples.stored,
        scales=samples.scales,
        masks=samples.squares,
        sizes=torch.from_numpy(shapes),
        reach=torch.tensor(reach),
        moves=torch.tensor(moves),
        slice_of_box=torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)),
        boxes=torch.from_numpy(corners),
        boxes_of_slice=counts,
        asked=torch.from_numpy(asked),
        asked_of_box=tuple(asked_of_box),
        weights=torch.tensor([weights[record.case] if weights else 1.0 for record in samples.records]),
        seen=sights and sights.bounds,
        window=(sights.rows, sights.columns) if sights else (grid, grid),
    )


def _draw_boxes(
    kidneys: Sequence[np.ndarray], shapes: np.ndarray, prompt: PromptConfig, draws: Sequence[np.random.Generator]
) -> list[np.ndarray]:
    """(p, 4) float32 of each slice, in pixels: around its kidneys, with the margin, and moved."""
    counts = list(map(len, kidneys))
    moves = np.concatenate([rng.uniform(-1, 1, (count, 4)) for rng, count in zip(draws, counts)])
    heights, widths = np.repeat(shapes, counts, axis=0).T
    boxes = clip(jitter(enlarge(np.concatenate(kidneys), prompt.margin), prompt.jitter, moves), heights, widths)
    return np.split(boxes, np.cumsum(counts)[:-1])


def _draw_move(mask: np.ndarray, shift: float, grid: int, rng: np.random.Generator) -> tuple[int, int]:
    """Cells to move down and to the right, such that what is labelled stays on the slice."""
    if not shift:
        return 0, 0
    side = max(mask.shape)
    moves = []
    for axis, length in enumerate(mask.shape):
        labelled = np.flatnonzero(np.bitwise_or.reduce(mask, axis=1 - axis))
        first, last = (labelled[0], labelled[-1] + 1) if len(labelled) else (0, length)
        mask = mask[first:last]  # columns are looked at in rows with labels only
        room = int(first * grid / side), int((length - last) * grid / side)
        farthest = round(shift * grid)
        moves.append(int(rng.integers(-min(farthest, room[0]), min(farthest, room[1]), endpoint=True)))
    return moves[0], moves[1]
