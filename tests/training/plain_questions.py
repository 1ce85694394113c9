"""What a decoder is asked and should answer, drawn slice by slice on the CPU and in floating point throughout."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from kitsam.ct.instances import find_instances
from kitsam.ct.labels import target_mask
from kitsam.decoding.config import PromptConfig
from kitsam.sam.boxes import clip, enlarge, jitter
from kitsam.sam.masks import inside_boxes
from kitsam.shards.reader import Samples
from kitsam.system.seeds import generator


class PlainQuestions(NamedTuple):
    """About all slices."""

    moves: list[tuple[int, int]]
    embeddings: Tensor
    boxes: Tensor
    targets: Tensor
    region: Tensor


def plain_questions(
    samples: Samples, target: str, prompt: PromptConfig, seed: int, step: int, shift: float, lesion_weight: float
) -> PlainQuestions:
    grid = samples.stored.shape[-1]
    logits = 4 * grid
    moves, embeddings, boxes, targets, regions = [], [], [], [], []
    for record, mask, embedding in zip(samples.records, samples.masks, samples.stored):
        rng = generator(seed, "boxes", step, record.key)
        height, width = mask.shape
        side, pixel = max(mask.shape), record.pixel_of(mask)
        if target == "roi":
            corners = (np.array(prompt.roi_box) * [width, height, width, height]).astype(np.float32)[None]
        else:
            tight = find_instances((mask > 0)[None], pixel, prompt.merge, prompt.smallest).boxes
            moves_of_sides = rng.uniform(-1, 1, tight.shape)
            corners = clip(jitter(enlarge(tight, prompt.margin), prompt.jitter, moves_of_sides), height, width)
        corners = torch.from_numpy(corners)
        region = torch.ones(len(corners), logits, logits)
        if target == "roi":
            region *= 1 + (lesion_weight - 1) * share(mask > 1, logits)
        else:
            reach = [2 * round(6.0 / mm) + 1 for mm in pixel]
            near = ndimage.maximum_filter(mask > 0, size=reach, mode="constant")
            region *= 0.5 + 0.5 * share(near, logits)
        down, right = draw_move(mask, shift, grid, rng)
        moves.append((down, right))
        embeddings.append(embedding.roll((down, right), (1, 2)))
        boxes.append(corners * (grid / side) + torch.tensor([right, down, right, down]))
        inside = inside_boxes(4 * boxes[-1], logits, logits)
        answer = share(target_mask(mask, target), logits).expand(len(corners), -1, -1)
        targets.append(answer.roll((4 * down, 4 * right), (1, 2)))
        regions.append(region.roll((4 * down, 4 * right), (1, 2)) * inside)
    return PlainQuestions(moves, torch.stack(embeddings), torch.cat(boxes), torch.cat(targets), torch.cat(regions))


def share(mask: np.ndarray, logits: int) -> Tensor:
    height, width = mask.shape
    side = max(mask.shape)
    padded = F.pad(torch.from_numpy(mask.astype(np.float32)), (0, side - width, 0, side - height))
    return F.interpolate(padded[None, None], (logits, logits), mode="area")[0, 0]


def draw_move(mask: np.ndarray, shift: float, grid: int, rng: np.random.Generator) -> tuple[int, int]:
    if not shift:
        return 0, 0
    moves = []
    for axis, length in enumerate(mask.shape):
        labelled = np.flatnonzero(mask.any(axis=1 - axis))
        first, last = (labelled[0], labelled[-1] + 1) if len(labelled) else (0, length)
        room = [int(cells * grid / max(mask.shape)) for cells in (first, length - last)]
        farthest = round(shift * grid)
        moves.append(int(rng.integers(-min(farthest, room[0]), min(farthest, room[1]), endpoint=True)))
    return moves[0], moves[1]
