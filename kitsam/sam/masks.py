"""From a decoder's logits to probabilities on the slices.

A decoder speaks for the inside of its box only: outside, its probability counts as zero, in training as in inference.
Where boxes of one slice overlap, the largest probability counts.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kitsam.sam.decoder import BoxDecoder


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
def slice_probabilities(
    decoder: BoxDecoder,
    embeddings: Tensor,  # (B, 256, G, G)
    slice_of_box: Tensor,  # (P,) rows of `embeddings`
    boxes: Tensor,  # (P, 4) in pixels of the slice
    size: tuple[int, int],  # rows, columns of the slice
) -> Tensor:
    """(B, H, W) float32: at each pixel the largest probability of the boxes around it, zero outside all boxes."""
    height, width = size
    probabilities = boxes.new_zeros((len(embeddings), height, width))
    if len(boxes):
        to_cells = embeddings.shape[-1] / max(height, width)
        logits = decoder(embeddings, slice_of_box, boxes * to_cells)
        answers = logits_on_slices(logits, height, width).sigmoid() * inside_boxes(boxes, height, width)
        probabilities.scatter_reduce_(0, slice_of_box[:, None, None].expand_as(answers), answers, "amax")
    return probabilities
