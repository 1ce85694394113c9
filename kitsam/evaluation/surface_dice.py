"""Surface Dice: the share of two surfaces that lies within a tolerance of the other one.

The surface of a mask is made of elements, one in each 2x2x2 neighborhood of voxels that are not all in or all out;
they lie at the voxels' corners, beyond the border of the volume nothing is inside, and each has an area. An element
is matched where an element of the other surface is no farther than the tolerance. The official way computes every
element's distance; but to know whether it is within a voxel or two, it is enough to look at the handful of grid
offsets that are: nearest first, each only for the elements not matched yet. Where the offsets get so many that this
is slower, a distance transform answers instead. Both are exact: the values are those of the PyPI package
`surface-distance`, to rounding.

Cost: a byte a voxel and a few passes over the box around both masks, then some nanoseconds an element and offset.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from kitsam.evaluation.surface_table import surface_areas

Spacing = tuple[float, float, float]  # mm between slices, rows, columns

ALL_OUTSIDE, ALL_INSIDE = 0, 255
# What a voxel of a distance transform costs, in lookups of one element at one offset.
LOOKUPS_PER_TRANSFORMED_VOXEL = 15


def surface_dice(
    truth: np.ndarray,  # (S, H, W) bool
    prediction: np.ndarray,  # (S, H, W) bool
    spacing: Spacing,
    tolerance: float,  # mm
) -> float:
    """1 where both surfaces agree to the tolerance, 0 where none of them does. Both masks empty: 1; one of them: 0."""
    box = bounding_box(truth, prediction)
    if box is None:
        return 1.0
    first, second = (_surface(mask[box], spacing) for mask in (truth, prediction))
    unmatched = _unmatched_area(first, second, spacing, tolerance) + _unmatched_area(second, first, spacing, tolerance)
    return float(1 - unmatched / (first.areas.sum() + second.areas.sum()))


def bounding_box(*masks: np.ndarray) -> tuple[slice, slice, slice] | None:
    """The smallest box that holds every voxel that is not 0 in any of the masks; None where there is none."""
    box: list[slice] = []
    for axis in range(3):
        # Each axis looks only where the axes before it found something.
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(sum(mask[tuple(box)].any(axis=others) for mask in masks))
        if not len(filled):
            return None
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return box[0], box[1], box[2]


@dataclass(frozen=True)
class _Surface:
    present: np.ndarray  # (S+1, H+1, W+1) bool: whether a corner of the voxels' grid holds an element
    areas: np.ndarray  # (E,) mm2 of the elements, in the grid's order


def _surface(mask: np.ndarray, spacing: Spacing) -> _Surface:
    codes = _cell_codes(mask)
    present = (codes != ALL_OUTSIDE) & (codes != ALL_INSIDE)
    return _Surface(present, surface_areas(spacing)[codes[present]])


def _cell_codes(mask: np.ndarray) -> np.ndarray:
    """(S+1, H+1, W+1) uint8: the eight voxels around each corner of the grid, a bit each."""
    codes = np.pad(mask.view(np.uint8), 1)
    # Two neighbors make a code of two bits, two of these one of four, two of these one of eight.
    codes = codes[:, :, :-1] << 1 | codes[:, :, 1:]
    codes = codes[:, :-1] << 2 | codes[:, 1:]
    return codes[:-1] << 4 | codes[1:]


def _unmatched_area(surface: _Surface, other: _Surface, spacing: Spacing, tolerance: float) -> float:
    """mm2 of `surface` that are farther than `tolerance` from any element of `other`."""
    if not len(surface.areas):
        return 0.0
    if not len(other.areas):
        return float(surface.areas.sum())
    offsets = 4 / 3 * np.pi * tolerance**3 / np.prod(spacing)
    if offsets * len(surface.areas) > LOOKUPS_PER_TRANSFORMED_VOXEL * surface.present.size:
        return _unmatched_by_distance(surface, other, spacing, tolerance)
    return _unmatched_by_lookup(surface, other, spacing, tolerance)


def _unmatched_by_distance(surface: _Surface, other: _Surface, spacing: Spacing, tolerance: float) -> float:
    distances = ndimage.distance_transform_edt(~other.present, sampling=spacing)
    return float(surface.areas[distances[surface.present] > tolerance].sum())


def _unmatched_by_lookup(surface: _Surface, other: _Surface, spacing: Spacing, tolerance: float) -> float:
    offsets = _offsets_within(tolerance, spacing, surface.present.shape)
    reach = np.abs(offsets).max(axis=0, initial=0)
    around = [(int(steps), int(steps)) for steps in reach]
    # With this margin an offset never leaves the array, nor wraps around to the next row of its flat view.
    lookup = np.pad(other.present, around).ravel()
    elements = np.flatnonzero(np.pad(surface.present, around))
    areas = surface.areas
    _, rows, columns = np.array(surface.present.shape) + 2 * reach
    for step in offsets @ np.array([rows * columns, columns, 1]):
        unmatched = ~lookup[elements + step]
        elements, areas = elements[unmatched], areas[unmatched]
    return float(areas.sum())


def _offsets_within(tolerance: float, spacing: Spacing, shape: tuple[int, ...]) -> np.ndarray:
    """(K, 3) grid offsets no longer than `tolerance` mm, nearest first; none leads out of a grid of this shape."""
    # One step too many, since the quotient may be rounded down across a whole number.
    most = [int(min(tolerance / step + 1, size - 1)) for step, size in zip(spacing, shape)]
    offsets = np.stack(np.meshgrid(*(np.arange(-steps, steps + 1) for steps in most)), axis=-1).reshape(-1, 3)
    # The same sum in the same order as scipy's distance transform, so that a distance equal to the tolerance
    # is rounded alike.
    lengths = np.sqrt(((offsets * np.array(spacing)) ** 2).sum(axis=1))
    nearest_first = np.argsort(lengths, kind="stable")
    return offsets[nearest_first[: np.count_nonzero(lengths <= tolerance)]]
