"""ROI -> boxes -> lesions -> one label volume.

The ROI decoder, asked with its fixed box, finds kidneys with their masses on every slice; the mask is cleaned in 3-D.
Each kidney of a slice gives a box, with which the tumor and the cyst decoder are asked. A voxel of the ROI becomes
what is most probable there: kidney, cyst or tumor (on a tie the later wins). Lesions too small to be true become
kidney.

Slices and boxes go through the decoders in batches. Memory: a batch of probabilities at the scan's own resolution, and
some 13 bytes a voxel while 3-D parts are counted.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from kitsam.ct.instances import IN_PLANE
from kitsam.ct.labels import CYST, KIDNEY, TUMOR, Target
from kitsam.decoding.ask import SliceBoxes, TargetDecoder, ask, kidney_boxes, roi_boxes
from kitsam.inference.config import CascadeConfig
from kitsam.system.devices import to_device, to_host

MM3_PER_ML = 1000.0

# (first slice, number of slices) -> embeddings (B, 256, G, G)
EmbeddingSource = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class Cascade:
    """The three decoders on one device, and how their answers become labels."""

    roi: TargetDecoder
    tumor: TargetDecoder | None
    cyst: TargetDecoder | None
    config: CascadeConfig
    device: torch.device

    def __post_init__(self) -> None:
        for target_decoder in (self.roi, self.tumor, self.cyst):
            if target_decoder:
                target_decoder.decoder.to(self.device).eval()


def cascade_of(decoders: Mapping[Target, TargetDecoder], config: CascadeConfig, device: torch.device) -> Cascade:
    """`decoders`: of the ROI at least."""
    return Cascade(decoders["roi"], decoders.get("tumor"), decoders.get("cyst"), config, device)


def label_volume(
    cascade: Cascade,
    embeddings: EmbeddingSource,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],  # mm between slices, rows, columns
    boxes: SliceBoxes | None = None,
) -> np.ndarray:
    """(S, H, W) uint8 labels. `boxes` drawn by hand stand for those of the ROI: only inside them is a kidney."""
    roi = find_roi(cascade, embeddings, shape)
    if boxes is not None:
        roi &= _inside(boxes, shape)
    roi = clean_roi(roi, spacing, cascade.config.smallest_roi)
    label = np.where(roi, KIDNEY, 0).astype(np.uint8)
    add_lesions(cascade, embeddings, label, spacing, boxes)
    return drop_small_lesions(label, spacing, cascade.config.smallest_lesion)


def add_lesions(
    cascade: Cascade,
    embeddings: EmbeddingSource,
    label: np.ndarray,  # (S, H, W) uint8, KIDNEY on the ROI
    spacing: tuple[float, float, float],
    boxes: SliceBoxes | None = None,
) -> None:
    """Write tumors and cysts into `label`, whose slices are asked each for itself."""
    roi, shape = label > 0, label.shape
    # A box drawn by hand is believed where the ROI decoder saw nothing.
    allowed = roi if boxes is None else np.ones(shape, bool)
    tumor = _lesion_probabilities(cascade, cascade.tumor, embeddings, roi, spacing, boxes)
    cyst = _lesion_probabilities(cascade, cascade.cyst, embeddings, roi, spacing, boxes)
    for (first, tumor_probability), (_, cyst_probability) in zip(tumor, cyst):
        part = slice(first, first + len(tumor_probability))
        lesion = _most_probable(tumor_probability, cyst_probability, cascade.config.lesion_threshold)
        label[part] = np.where(allowed[part] & (lesion > 0), lesion, label[part])


def find_roi(cascade: Cascade, embeddings: EmbeddingSource, shape: tuple[int, int, int]) -> np.ndarray:
    """(S, H, W) bool: where the ROI decoder sees kidney or mass."""
    roi = np.zeros(shape, bool)
    for first, count in _batches(cascade, shape[0]):
        boxes = roi_boxes(cascade.roi.prompt, count, shape[1:])
        probabilities = ask(cascade.roi.decoder, to_device(embeddings(first, count), cascade.device), boxes, shape[1:])
        roi[first : first + count] = to_host(probabilities > cascade.config.roi_threshold)
    return roi


def _batches(cascade: Cascade, slices: int) -> Iterator[tuple[int, int]]:
    """First slice and number of slices of each batch."""
    for first in range(0, slices, cascade.config.batch_size):
        yield first, min(cascade.config.batch_size, slices - first)


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
    """(S, H, W) bool: the 3-D parts below `smallest` mL. One that the scan's first or last slice cuts is taken to go on
    as far as it is wide there: a single slice of 0.5 mm shows half a milliliter of a whole kidney.
    """
    parts, count = ndimage.label(mask)
    voxels = np.bincount(parts.ravel(), minlength=count + 1)
    cuts = [np.bincount(parts[end].ravel(), minlength=count + 1) * (spacing[1] * spacing[2]) for end in (0, -1)]  # mm2
    volumes = voxels * np.prod(spacing) + sum(cut**1.5 for cut in cuts)  # mm3
    small = volumes < smallest * MM3_PER_ML
    small[0] = False
    return small[parts]


def _lesion_probabilities(
    cascade: Cascade,
    target_decoder: TargetDecoder | None,
    embeddings: EmbeddingSource,
    roi: np.ndarray,  # (S, H, W) bool
    spacing: tuple[float, float, float],
    boxes: SliceBoxes | None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first slice and the probabilities (B, H, W) of each batch of slices, zero where no box lies."""
    size = roi.shape[1:]
    if target_decoder and boxes is None:
        boxes = kidney_boxes(roi, spacing[1:], target_decoder.prompt)
    for first, count in _batches(cascade, len(roi)):
        here = boxes.within(first, count) if target_decoder else None
        if not here or not len(here.slices):
            yield first, np.zeros((count, *size), np.float32)
            continue
        batch = to_device(embeddings(first, count), cascade.device)
        yield first, to_host(ask(target_decoder.decoder, batch, here, size, cascade.config.batch_size))


def _most_probable(tumor: np.ndarray, cyst: np.ndarray, threshold: float) -> np.ndarray:
    """Tumor, cyst or 0 (neither is probable enough)."""
    lesion = np.where(tumor >= cyst, TUMOR, CYST)
    return np.where(np.maximum(tumor, cyst) > threshold, lesion, 0)


def _inside(boxes: SliceBoxes, shape: tuple[int, int, int]) -> np.ndarray:
    """(S, H, W) bool: the voxels that lie in a box."""
    inside = np.zeros(shape, bool)
    for z, (x0, y0, x1, y1) in zip(boxes.slices, np.rint(boxes.boxes).astype(int)):
        inside[z, y0:y1, x0:x1] = True
    return inside
