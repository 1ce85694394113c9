"""The kidneys of each slice: connected parts of a mask of kidneys with their masses.

Parts that lie near one another are joined, and specks are left out. Many slices are searched in one call. Boxes are
x0 y0 x1 y1 in continuous pixel coordinates: pixel `i` spans `i .. i + 1`.
"""

from dataclasses import dataclass

import cc3d
import numpy as np
from scipy import ndimage

from kitsam.ct.boxes import Box, filled_boxes
from kitsam.ct.planes import number_in_planes


@dataclass(frozen=True)
class Instances:
    """The kidneys (with their masses) of a volume, P in all its slices, sorted by slice and then by position."""

    slices: np.ndarray  # (P,) int, slice of each instance
    boxes: np.ndarray  # (P, 4) float32, tight, in the pixels of the mask


def find_instances(roi: np.ndarray, pixel: tuple[float, float], merge: float, smallest: float) -> Instances:
    """One instance per connected part of a slice of `roi`, (S, H, W) bool; `pixel`: mm a row and a column.

    Parts nearer than `merge` mm are one instance. Parts below `smallest` mm2 are left out, but for the largest of a
    slice that has only such parts, so that every slice with any ROI has a box.
    """
    # Two parts join when their margins of half the merging distance touch.
    margins = [int(merge / 2 / mm) for mm in pixel]
    found = [_near_parts(roi, box, margins) for box in filled_boxes(roi)]
    if not found:
        return Instances(np.zeros(0, int), np.zeros((0, 4), np.float32))
    slices, boxes, pixels = (np.concatenate(some) for some in zip(*found))
    keep = _large_enough(slices, pixels * pixel[0] * pixel[1], smallest)
    return Instances(slices[keep], boxes[keep])


def _near_parts(roi: np.ndarray, box: Box, margins: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slice (P,), box (P, 4) and pixels (P,) of the parts in a box of `roi`, joined where their margins touch."""
    slices, rows, columns = box[0], *map(_widen, box[1:], margins, roi.shape[1:])
    filled = np.ascontiguousarray(roi[slices, rows, columns])
    reach = [1, *(2 * margin + 1 for margin in margins)]
    near = ndimage.maximum_filter(filled.view(np.uint8), size=reach, mode="constant") if max(reach) > 1 else filled
    numbers, _ = number_in_planes(near)
    # First of number 0, which is no part; counted from the corner of the box, with the last slice, row and column.
    parts = cc3d.statistics(numbers * filled, no_slice_conversion=True)
    z, _, first_row, last_row, first_column, last_column = parts["bounding_boxes"][1:].T.astype(int)
    corners = np.stack([first_column, first_row, last_column + 1, last_row + 1], axis=1)
    corners += [columns.start, rows.start] * 2
    return z + slices.start, corners.astype(np.float32), parts["voxel_counts"][1:].astype(int)


def _widen(part: slice, margin: int, length: int) -> slice:
    """By a margin, within rows or columns of that number."""
    return slice(max(part.start - margin, 0), min(part.stop + margin, length))


def _large_enough(slices: np.ndarray, areas: np.ndarray, smallest: float) -> np.ndarray:
    """(P,) bool: at least `smallest`, or the first largest of its slice."""
    largest = np.zeros(slices.max() + 1)
    np.maximum.at(largest, slices, areas)
    first_largest = np.zeros(len(slices), bool)
    rows = np.flatnonzero(areas == largest[slices])
    first_largest[rows[np.unique(slices[rows], return_index=True)[1]]] = True
    return (areas >= smallest) | first_largest
