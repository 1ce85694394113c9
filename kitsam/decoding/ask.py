"""Asking a decoder with boxes, the same way in validation as in use.

The ROI decoder gets one fixed box a slice. A lesion decoder gets a box around each kidney with its masses on each
slice, enlarged by a margin. A decoder answers for the inside of its boxes; where they overlap the larger probability
stands.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kitsam.ct.body import BodyBox
from kitsam.ct.instances import find_instances
from kitsam.decoding.config import PromptConfig
from kitsam.decoding.detail import DetailNets
from kitsam.sam.boxes import clip, enlarge
from kitsam.sam.decoder import BoxDecoder
from kitsam.sam.masks import raise_probabilities


@dataclass(frozen=True)
class TargetDecoder:
    """The decoder of one target, and the prompts that it was trained with."""

    decoder: BoxDecoder
    prompt: PromptConfig
    detail: DetailNets | None = field(default=None, kw_only=True)  # that answer beside it


@dataclass(frozen=True)
class SliceBoxes:
    """Boxes on slices, in order of slice."""

    slices: np.ndarray  # (P,) int
    boxes: np.ndarray  # (P, 4) float32, x0 y0 x1 y1 in pixels of the slice

    def within(self, first: int, count: int) -> "SliceBoxes":
        """Those on slices `first` to `first + count`, which become slices 0 to `count`."""
        inside = (self.slices >= first) & (self.slices < first + count)
        return SliceBoxes(self.slices[inside] - first, self.boxes[inside])

    def inside(self, body: BodyBox) -> "SliceBoxes":
        """Those on slices that are cut to the body, in pixels of these; what lies outside is cut off."""
        boxes = clip(self.boxes - np.array([body.left, body.top] * 2, np.float32), *body.shape)
        kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return SliceBoxes(self.slices[kept], boxes[kept])


def roi_box(prompt: PromptConfig, height: float, width: float) -> np.ndarray:
    """(4,) float32: the ROI decoder's box on a slice of that size."""
    return (np.array(prompt.roi_box) * [width, height, width, height]).astype(np.float32)


def roi_boxes(prompt: PromptConfig, slices: int, size: tuple[int, int]) -> SliceBoxes:
    """The ROI decoder's box on each slice; `size`: rows, columns."""
    return SliceBoxes(np.arange(slices), np.tile(roi_box(prompt, *size), (slices, 1)))


def kidney_boxes(roi: np.ndarray, pixel: tuple[float, float], prompt: PromptConfig) -> SliceBoxes:
    """A lesion decoder's boxes around the kidneys of `roi`, (S, H, W) bool; `pixel`: mm a row and a column."""
    kidneys = find_instances(roi, pixel, prompt.merge, prompt.smallest)
    return boxes_around(SliceBoxes(kidneys.slices, kidneys.boxes), roi.shape[1:], prompt)


def boxes_around(kidneys: SliceBoxes, size: tuple[int, int], prompt: PromptConfig) -> SliceBoxes:
    """A lesion decoder's boxes around kidneys whose own boxes are tight; `size`: rows, columns."""
    return SliceBoxes(kidneys.slices, clip(enlarge(kidneys.boxes, prompt.margin), *size))


def ask(
    decoder: BoxDecoder,
    embeddings: Tensor,  # (B, 256, G, G) on the decoder's device
    boxes: SliceBoxes,  # on these slices
    size: tuple[int, int],  # rows, columns of a slice
    boxes_at_once: int | None = None,
) -> Tensor:
    """(B, H, W) float32 on the device: the probability at each pixel, zero outside the boxes."""
    count = len(boxes.slices)
    probabilities = embeddings.new_zeros((len(embeddings), *size), dtype=torch.float32)
    for first in range(0, count, boxes_at_once or max(count, 1)):
        part = slice(first, first + (boxes_at_once or count))
        raise_probabilities(probabilities, decoder, embeddings, boxes.slices[part], boxes.boxes[part])
    return probabilities
