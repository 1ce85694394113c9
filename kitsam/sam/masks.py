"""From a decoder's logits to probabilities on the slices.

A decoder speaks for the inside of its box only: outside, its probability counts as zero, in training as in inference.
Where boxes of one slice overlap, the largest probability counts.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kitsam.sam.boxes import cells_inside
from kitsam.sam.decoder import LOGITS_PER_CELL, BoxDecoder
from kitsam.sam.sight import sights_around
from kitsam.system.devices import to_device

REACH = 1 / LOGITS_PER_CELL  # cells beyond a box whose logits count inside it, between which is interpolated


def logits_on_slices(logits: Tensor, height: int, width: int) -> Tensor:
    """(P, L, L) logits of the padded square -> (P, height, width) on the slice, bilinear."""
    side = max(height, width)
    return F.interpolate(logits[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0, :height, :width]


def inside_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """(P, 4) boxes in pixels -> (P, height, width) bool: pixels whose center lies in the box."""
    x = torch.arange(width, device=boxes.device) + 0.5
    y = torch.arange(height, device=boxes.device) + 0.5
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    return ((y >= y0) & (y < y1))[:, :, None] & ((x >= x0) & (x < x1))[:, None, :]


@torch.inference_mode()
def raise_probabilities(
    probabilities: Tensor,  # (B, height, width) float32
    decoder: BoxDecoder,
    embeddings: Tensor,  # (B, 256, G, G)
    slice_of_box: np.ndarray,  # (P,) rows of `embeddings`
    boxes: np.ndarray,  # (P, 4) float32, in pixels of the slice
) -> None:
    """Raise each pixel's probability to the largest that the decoder gives it in a box around it.

    Box by box, since a kidney's box is a tenth of its slice: that takes a quarter of the time of whole slices.
    """
    height, width = probabilities.shape[1:]
    to_cells = embeddings.shape[-1] / max(height, width)
    cells, _ = cells_inside(boxes * to_cells, embeddings.shape[-1], REACH)
    device = embeddings.device
    rows, corners, asked = (to_device(torch.from_numpy(one), device) for one in (slice_of_box, boxes, cells))
    sights = None
    if decoder.sight is not None:
        sights = sights_around(boxes * to_cells, embeddings.shape[-1], decoder.sight).to(device)
    logits = decoder(embeddings, rows, corners * to_cells, asked, sights)
    answers = logits_on_slices(logits, height, width).sigmoid_()
    for row, (x0, y0, x1, y1), answer in zip(slice_of_box.tolist(), _pixel_ranges(boxes), answers):
        part = probabilities[row, y0:y1, x0:x1]
        torch.maximum(part, answer[y0:y1, x0:x1], out=part)


def _pixel_ranges(boxes: np.ndarray) -> list[list[int]]:
    """(P, 4) boxes -> first column, first row, end of columns, end of rows of the pixels whose center lies inside."""
    return np.ceil(np.maximum(boxes - 0.5, 0)).astype(int).tolist()


def pixels_inside(slice_of_box: np.ndarray, boxes: np.ndarray, like: Tensor) -> Tensor:
    """Bool of the shape (B, height, width) and on the device of `like`: the pixels that lie in a box of their slice."""
    inside = torch.zeros_like(like, dtype=torch.bool)
    for row, (x0, y0, x1, y1) in zip(slice_of_box.tolist(), _pixel_ranges(boxes)):
        inside[row, y0:y1, x0:x1] = True
    return inside
