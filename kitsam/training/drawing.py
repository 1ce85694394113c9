"""What a decoder sees and should answer, drawn on the device from a batch of questions.

The answer is drawn at the logits' resolution: a pixel's target is the share of it that the class covers. How much it
counts depends on its box, and for a lesion decoder on how near the ROI is.

Slices differ in size, in the pixels that a millimeter makes, and in where they are moved to; each is still drawn by the
same few operations on the whole batch. All are sums over windows of rows and of columns, and a window's sum is the
difference of two running ones. On a processor that takes some 7 ms for a lesion decoder's slice of 512 x 512, a few
hundredths of a training step; a GPU writes and reads some 3 GB for 64 slices.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kitsam.ct.labels import KIDNEY, Target, target_mask
from kitsam.sam.decoder import LOGITS_PER_CELL
from kitsam.training.losses import holds_class
from kitsam.training.questions import Questions

FAR_WEIGHT = 0.5  # of a pixel in the box farther from the ROI than `ROI_ERROR`


class Answers(NamedTuple):
    """What P questions ask for, of L x L logits each."""

    boxes: Tensor  # (P, 4) float32, in cells of the moved embedding
    targets: Tensor  # (P, L, L) float32 in 0..1
    region: Tensor  # (P, L, L) float32, how much the answer counts: 0 outside the box, 1 where it matters most
    positive: Tensor  # (P,) float32, 1 where the box holds what is asked for


class _Windows(NamedTuple):
    """Pixels `start` to `stop` of an axis of each slice."""

    start: Tensor  # (B, K) int64
    stop: Tensor  # (B, K) int64


def draw_answers(questions: Questions, target: Target, lesion_weight: float) -> Answers:
    """`lesion_weight`: how much a lesion's pixel counts for the ROI decoder."""
    masks, boxes, slices = questions.masks, questions.boxes, questions.slice_of_box
    logits = LOGITS_PER_CELL * questions.stored.shape[-1]
    # Where the pixel that is drawn lay before the move.
    rows, columns = (_before(move, logits) for move in (questions.moves * LOGITS_PER_CELL).unbind(1))
    pixels = [_pixels_of(axis, questions.sizes.amax(1), logits) for axis in (rows, columns)]
    boxes = boxes + questions.moves[slices].flip(1).repeat(1, 2)
    region = _inside(boxes * LOGITS_PER_CELL, logits).float()  # what leaves the slice does not return in the box
    if target == "roi":
        region *= 1 + (lesion_weight - 1) * _share(masks > KIDNEY, *pixels)[slices]
    else:
        near = _near(masks > 0, questions.reach, questions.sizes)
        region *= (FAR_WEIGHT + (1 - FAR_WEIGHT) * _share(near, *pixels))[slices]
    targets = _share(target_mask(masks, target), *pixels)[slices]
    return Answers(boxes, targets, region, holds_class(targets, region))


def move(embeddings: Tensor, moves: Tensor) -> Tensor:
    """(B, C, G, G) moved by cells down and to the right, (B, 2) int64; what leaves on one side returns on the other."""
    rows, columns = (_before(axis, embeddings.shape[-1]) for axis in moves.unbind(1))
    numbers = torch.arange(len(embeddings), device=embeddings.device)[:, None, None]
    # Channels last in memory, as the decoder wants its cells.
    return embeddings.permute(0, 2, 3, 1)[numbers, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _before(move: Tensor, length: int) -> Tensor:
    """(B,) -> (B, length) int64: where what now lies at 0, 1, ... lay before the move."""
    return (torch.arange(length, device=move.device) - move[:, None]) % length


def _pixels_of(logits: Tensor, sides: Tensor, count: int) -> _Windows:
    """The mask's pixels that each of `logits`, (B, L), of `count` touches; `sides`: (B,) of the padded squares."""
    sides = sides[:, None]
    return _Windows(logits * sides // count, ((logits + 1) * sides + count - 1) // count)


def _inside(boxes: Tensor, logits: int) -> Tensor:
    """(P, 4) in pixels of the logits -> (P, L, L) bool: pixels whose center lies in the box."""
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    center = torch.arange(logits, device=boxes.device) + 0.5
    return ((center >= y0) & (center < y1))[:, :, None] & ((center >= x0) & (center < x1))[:, None, :]


def _share(masks: Tensor, rows: _Windows, columns: _Windows) -> Tensor:
    """(B, S, S) bool -> (B, L, L) in 0..1: how much of each window the mask covers."""
    areas = (rows.stop - rows.start)[:, :, None] * (columns.stop - columns.start)[:, None, :]
    return _sums(_sums(masks, columns), rows) / areas


def _near(masks: Tensor, reach: Tensor, sizes: Tensor) -> Tensor:
    """(B, S, S) bool: within `reach` rows and columns, (B, 2), of what is set, on slices of `sizes`, (B, 2)."""
    position = torch.arange(masks.shape[-1], device=masks.device)
    rows, columns = (_around(position, axis[:, None], len(position)) for axis in reach.unbind(1))
    on_rows, on_columns = (position < axis[:, None] for axis in sizes.unbind(1))
    near = _sums(_sums(masks, columns) > 0, rows) > 0
    return near & on_rows[:, :, None] & on_columns[:, None, :]


def _around(position: Tensor, reach: Tensor, length: int) -> _Windows:
    return _Windows((position - reach).clamp(min=0), (position + reach + 1).clamp(max=length))


def _sums(numbers: Tensor, windows: _Windows) -> Tensor:
    """(B, N, M) -> (B, K, N) int16: sums over windows of the last axis, which becomes the first.

    The running sums may overflow; the differences are right as long as a window's own sum does not.
    """
    running = F.pad(numbers.cumsum(-1, dtype=torch.int16).mT, (0, 0, 1, 0))
    slices = torch.arange(len(running), device=running.device)[:, None]
    return running[slices, windows.stop] - running[slices, windows.start]
