"""What is closed in a label volume and what is taken out of it, in place.

Holes are those of a slice; parts are those of 3-D, whose voxels share faces. All works in the boxes of what is
labeled: memory beyond the volume is some 20 MiB, whatever it holds.
"""

from collections.abc import Iterator

import numpy as np

from kitsam.ct.boxes import Box, box_of, filled_boxes
from kitsam.ct.labels import BACKGROUND, CYST, KIDNEY, TUMOR
from kitsam.ct.parts import FACES, Parts, number_parts
from kitsam.ct.planes import fill_holes

MM3_PER_ML = 1000.0


def clean_roi(label: np.ndarray, spacing: tuple[float, float, float], smallest: float) -> None:
    """Fill holes in the slices, drop 3-D parts below `smallest` mL; `label`: (S, H, W) uint8, KIDNEY on the ROI."""
    for box in filled_boxes(label):
        label[box][fill_holes(label[box] == KIDNEY)] = KIDNEY
    _replace_small_parts(label, KIDNEY, BACKGROUND, spacing, smallest)


def drop_small_lesions(label: np.ndarray, spacing: tuple[float, float, float], smallest: float) -> None:
    """3-D parts of a tumor or of a cyst below `smallest` mL become kidney; `label`: (S, H, W) uint8."""
    for lesion in (TUMOR, CYST):
        _replace_small_parts(label, lesion, KIDNEY, spacing, smallest)


def _replace_small_parts(
    label: np.ndarray, old: int, new: int, spacing: tuple[float, float, float], smallest: float
) -> None:
    """The 3-D parts of class `old` below `smallest` mL become `new`. One that the scan's first or last slice cuts is
    taken to go on as far as it is wide there: a single slice of 0.5 mm shows half a milliliter of a whole kidney.
    """
    parts = Parts(FACES, label.shape[1:])
    boxes, voxels = [], []
    for box, mask in _masks_of(label, old):
        numbers, count = parts.number(mask, box)
        boxes.append(box)
        begins, ends = box[0].start == 0, box[0].stop == len(label)
        sections = slice(None), slice(int(begins)), slice(len(mask) - int(ends), None)  # all, the scan's first and last
        voxels.append([np.bincount(numbers[z][mask[z]], minlength=count + 1)[1:] for z in sections])
    if not parts.count:
        return
    part, count = parts.join()
    whole, *ends = (np.bincount(part, some, minlength=count) for some in np.concatenate(voxels, axis=1))
    cuts = [end * (spacing[1] * spacing[2]) for end in ends]  # mm2
    volumes = whole * np.prod(spacing) + sum(cut**1.5 for cut in cuts)  # mm3
    small = (volumes < smallest * MM3_PER_ML)[part]
    for box, is_small in zip(boxes, np.split(small, np.cumsum([len(some[0]) for some in voxels])[:-1])):
        if is_small.any():
            numbers, _ = number_parts(label[box] == old, FACES)
            label[box][np.append(False, is_small)[numbers]] = new


def _masks_of(label: np.ndarray, number: int) -> Iterator[tuple[Box, np.ndarray]]:
    """The boxes of a class, and where it lies in them, (T, h, w) bool."""
    for slices, rows, columns in filled_boxes(label):
        mask = label[slices, rows, columns] == number
        inner = box_of(mask)
        if inner is not None:
            corner = rows.start, columns.start
            rows, columns = (slice(first + cut.start, first + cut.stop) for first, cut in zip(corner, inner))
            yield (slices, rows, columns), np.ascontiguousarray(mask[:, inner[0], inner[1]])
