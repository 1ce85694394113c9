"""ROI -> boxes -> lesions -> one label volume.

The ROI decoder, asked with its fixed box, finds kidneys with their masses on every slice; the mask is cleaned in 3-D.
Each kidney of a slice gives a box, with which the tumor and the cyst decoder are asked. A voxel of the ROI becomes what is
most probable there: kidney, cyst or tumor (on a tie the later wins). Lesions too small to be true become kidney.

Slices and boxes go through the decoders in batches. Memory: one label volume, one bool volume and a batch of
probabilities at the scan's own resolution.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from kitsam.config import CascadeConfig, PromptConfig
from kitsam.kits.case import CYST, KIDNEY, TUMOR
from kitsam.sam.decoder import BoxDecoder
from kitsam.sam.masks import slice_probabilities
from kitsam.sam.prompts import IN_PLANE, clip, enlarge, find_instances, roi_box

MM3_PER_ML = 1000.0

# (first slice, number of slices) -> embeddings (B, 256, G, G)
EmbeddingSource = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class AskedDecoder:
    """A decoder and how it wants to be asked."""

    decoder: BoxDecoder
    prompt: PromptConfig


@dataclass(frozen=True)
class Cascade:
    roi: AskedDecoder
    tumor: AskedDecoder | None
    cyst: AskedDecoder | None
    config: CascadeConfig
    device: torch.device

    def __post_init__(self) -> None:
        for asked in (self.roi, self.tumor, self.cyst):
            if asked:
                asked.decoder.to(self.device).eval()


@dataclass(frozen=True)
class Boxes:
    """Boxes on the slices of a volume."""

    slices: np.ndarray  # (P,) int
    boxes: np.ndarray  # (P, 4) float32, x0 y0 x1 y1 in pixels of the slice


def label_volume(
    cascade: Cascade,
    embeddings: EmbeddingSource,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],  # mm between slices, rows, columns
    given: Boxes | None = None,
) -> np.ndarray:
    """(S, H, W) uint8 labels. `given` boxes stand for those of the ROI: kidneys are sought inside them only."""
    roi = find_roi(cascade, embeddings, shape)
    if given is not None:
        roi &= _inside(given, shape)
    roi = clean_roi(roi, spacing, cascade.config.smallest_roi)
    label = np.where(roi, KIDNEY, 0).astype(np.uint8)
    # A box drawn by hand is believed where the ROI decoder saw nothing.
    allowed = roi if given is None else np.ones(shape, bool)
    tumor = _answers(cascade, cascade.tumor, embeddings, roi, spacing, given)
    cyst = _answers(cascade, cascade.cyst, embeddings, roi, spacing, given)
    for (first, tumor_probability), (_, cyst_probability) in zip(tumor, cyst):
        part = slice(first, first + len(tumor_probability))
        chosen = _most_probable(tumor_probability, cyst_probability, cascade.config.lesion_threshold)
        label[part] = np.where(allowed[part] & (chosen > 0), chosen, label[part])
    return drop_small_lesions(label, spacing, cascade.config.smallest_lesion)


def find_roi(cascade: Cascade, embeddings: EmbeddingSource, shape: tuple[int, int, int]) -> np.ndarray:
    """(S, H, W) bool: where the ROI decoder sees kidney or mass."""
    count, size = shape[0], shape[1:]
    roi = np.zeros(shape, bool)
    for first, batch in _batches(cascade, embeddings, count):
        boxes = torch.from_numpy(np.tile(roi_box(cascade.roi.prompt, *size), (len(batch), 1))).to(cascade.device)
        rows = torch.arange(len(batch), device=cascade.device)
        probabilities = slice_probabilities(cascade.roi.decoder, batch, rows, boxes, size)
        roi[first : first + len(batch)] = (probabilities > cascade.config.roi_threshold).cpu().numpy()
    return roi


def _batches(cascade: Cascade, embeddings: EmbeddingSource, slices: int) -> Iterator[tuple[int, Tensor]]:
    for first in range(0, slices, cascade.config.batch_size):
        yield first, embeddings(first, min(cascade.config.batch_size, slices - first)).to(cascade.device)


def clean_roi(roi: np.ndarray, spacing: tuple[float, float, float], smallest: float) -> np.ndarray:
    """Fill holes in the slices, drop 3-D parts below `smallest` mL."""
    filled = ndimage.binary_fill_holes(roi, IN_PLANE)
    return filled & ~_small_parts(filled, spacing, smallest)


def drop_small_lesions(label: np.ndarray, spacing: tuple[float, float, float], smallest: float) -> np.ndarray:
    """3-D parts of a tumor or of a cyst below `smallest` mL become kidney."""
    cleaned = label.copy()
    for lesion in (TUMOR, CYST):
        cleaned[_small_parts(label == lesion, spacing, smallest)] = KIDNEY
    return cleaned


def _small_parts(mask: np.ndarray, spacing: tuple[float, float, float], smallest: float) -> np.ndarray:
    parts, count = ndimage.label(mask)
    voxels = np.bincount(parts.ravel(), minlength=count + 1)
    small = voxels * (np.prod(spacing) / MM3_PER_ML) < smallest
    small[0] = False
    return small[parts]


def _answers(
    cascade: Cascade,
    asked: AskedDecoder | None,
    embeddings: EmbeddingSource,
    roi: np.ndarray,
    spacing: tuple[float, float, float],
    given: Boxes | None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first slice and the probabilities (B, H, W) of each batch of slices, zero where no box lies."""
    size = roi.shape[1:]
    boxes = given
    if asked and given is None:
        instances = find_instances(roi, spacing[1:], asked.prompt)
        boxes = Boxes(instances.slices, clip(enlarge(instances.boxes, asked.prompt.margin), *size))
    for first in range(0, len(roi), cascade.config.batch_size):
        count = min(cascade.config.batch_size, len(roi) - first)
        probabilities = np.zeros((count, *size), np.float32)
        inside = (boxes.slices >= first) & (boxes.slices < first + count) if asked else np.zeros(0, bool)
        if inside.any():
            batch = embeddings(first, count).to(cascade.device)
            _ask(cascade, asked, batch, boxes.slices[inside] - first, boxes.boxes[inside], probabilities)
        yield first, probabilities


def _ask(cascade: Cascade, asked: AskedDecoder, batch: Tensor, rows: np.ndarray, boxes: np.ndarray, into: np.ndarray) -> None:
    """Fill `into` (B, H, W) with the largest probability of the boxes at each pixel."""
    for start in range(0, len(rows), cascade.config.batch_size):
        part = slice(start, start + cascade.config.batch_size)
        chosen = torch.from_numpy(rows[part]).to(cascade.device)
        asked_boxes = torch.from_numpy(boxes[part]).to(cascade.device)
        answers = slice_probabilities(asked.decoder, batch, chosen, asked_boxes, into.shape[1:])
        np.maximum(into, answers.cpu().numpy(), out=into)


def _most_probable(tumor: np.ndarray, cyst: np.ndarray, threshold: float) -> np.ndarray:
    """Tumor, cyst or 0 (neither is probable enough)."""
    lesion = np.where(tumor >= cyst, TUMOR, CYST)
    return np.where(np.maximum(tumor, cyst) > threshold, lesion, 0)


def _inside(given: Boxes, shape: tuple[int, int, int]) -> np.ndarray:
    inside = np.zeros(shape, bool)
    for z, (x0, y0, x1, y1) in zip(given.slices, np.rint(given.boxes).astype(int)):
        inside[z, y0:y1, x0:x1] = True
    return inside
