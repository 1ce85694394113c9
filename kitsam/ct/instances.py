"""The kidneys of each slice: connected parts of a mask of kidneys with their masses.

Parts that lie near one another are joined, and specks are left out. All slices of a volume are labeled in one call;
there is no loop over slices. Boxes are x0 y0 x1 y1 in continuous pixel coordinates: pixel `i` spans `i .. i + 1`.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

IN_PLANE = np.zeros((3, 3, 3), bool)
IN_PLANE[1] = True


@dataclass(frozen=True)
class Instances:
    """The kidneys (with their masses) of a volume, P in all its slices, sorted by slice and then by position."""

    slices: np.ndarray  # (P,) int, slice of each instance
    boxes: np.ndarray  # (P, 4) float32, tight, in the pixels of the mask
    labels: np.ndarray  # (S, H, W) int32, 1 + row of `boxes`; 0 where no instance is


def find_instances(roi: np.ndarray, pixel: tuple[float, float], merge: float, smallest: float) -> Instances:
    """One instance per connected part of a slice of `roi`, (S, H, W) bool; `pixel`: mm a row and a column.

    Parts nearer than `merge` mm are one instance. Parts below `smallest` mm2 are left out, but for the largest of a
    slice that has only such parts, so that every slice with any ROI has a box.
    """
    # Two parts join when their margins of half the merging distance touch.
    margins = [int(merge / 2 / mm) for mm in pixel]
    box = _filled_box(roi, margins)
    filled = np.ascontiguousarray(roi[:, box[0], box[1]])
    reach = [1, *(2 * margin + 1 for margin in margins)]
    near = ndimage.maximum_filter(filled.view(np.uint8), size=reach, mode="constant") if max(reach) > 1 else filled
    parts, count = ndimage.label(near, structure=IN_PLANE)
    parts *= filled
    labels = np.zeros(roi.shape, parts.dtype)
    if not count:
        return Instances(np.zeros(0, int), np.zeros((0, 4), np.float32), labels)
    extents = [extent for extent in ndimage.find_objects(parts) if extent is not None]
    slices = np.array([extent[0].start for extent in extents])
    boxes = np.array([[x.start, y.start, x.stop, y.stop] for _, y, x in extents], np.float32)
    boxes += np.tile([box[1].start, box[0].start], 2).astype(np.float32)
    areas = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    keep = _large_enough(slices, areas[areas > 0] * pixel[0] * pixel[1], smallest)
    new_labels = np.zeros(count + 1, parts.dtype)
    new_labels[1 + np.flatnonzero(areas > 0)[keep]] = 1 + np.arange(keep.sum())
    labels[:, box[0], box[1]] = new_labels[parts]
    return Instances(slices[keep], boxes[keep], labels)


def _filled_box(roi: np.ndarray, margins: list[int]) -> tuple[slice, slice]:
    """Rows and columns that hold all of `roi`, (S, H, W) bool, and a margin around it."""
    plane = roi.any(axis=0)
    box = []
    for axis, margin in enumerate(margins):
        filled = np.flatnonzero(plane.any(axis=1 - axis))
        first, last = (filled[0], filled[-1] + 1) if len(filled) else (0, 0)
        box.append(slice(max(int(first) - margin, 0), min(int(last) + margin, plane.shape[axis])))
    return box[0], box[1]


def _large_enough(slices: np.ndarray, areas: np.ndarray, smallest: float) -> np.ndarray:
    """(P,) bool: at least `smallest`, or the first largest of its slice."""
    largest = np.zeros(slices.max() + 1)
    np.maximum.at(largest, slices, areas)
    first_largest = np.zeros(len(slices), bool)
    rows = np.flatnonzero(areas == largest[slices])
    first_largest[rows[np.unique(slices[rows], return_index=True)[1]]] = True
    return (areas >= smallest) | first_largest
