"""Surface Dice: the share of two surfaces that lies within a tolerance of the other one.

The surface of a mask is made of elements, one in each 2x2x2 neighborhood of voxels that are not all in or all out;
they lie at the voxels' corners, beyond the border of the volume nothing is inside, and each has an area. An element
is matched where an element of the other surface is no farther than the tolerance. The official way computes every
element's distance; but to know whether it is within a voxel or two, it is enough to look at the handful of grid
offsets that are: nearest first, each only for the elements not matched yet. Where the offsets get so many that this
is slower, a distance transform answers instead. Both are exact: the values are those of the PyPI package
`surface-distance`, to rounding.

Nothing farther than the tolerance matters, so that the work goes slab by slab (`slabs.py`). Cost: a byte a voxel and a
few passes over the box around what a slab holds, then some nanoseconds an element and offset.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from kitsam.ct.boxes import box_of
from kitsam.evaluation.slabs import slabs, slowest_first
from kitsam.evaluation.surface_table import surface_areas

Spacing = tuple[float, float, float]  # mm between slices, rows, columns
Axes = tuple[int, int, int]

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
    axes = slowest_first(truth)
    matcher = SurfaceMatcher(spacing, tolerance, truth.shape, axes)
    total = Areas(0.0, 0.0)
    for slab in slabs(truth.transpose(axes), prediction.transpose(axes), matcher.margin):
        total += matcher.areas(slab.truth, slab.prediction, slab.own, slab.is_last)
    return total.dice


class Areas(NamedTuple):
    """Of both surfaces together, mm2."""

    whole: float
    unmatched: float

    def __add__(self, other: "Areas") -> "Areas":
        return Areas(self.whole + other.whole, self.unmatched + other.unmatched)

    @property
    def dice(self) -> float:
        return 1 - self.unmatched / self.whole if self.whole else 1.0


@dataclass(frozen=True)
class SurfaceMatcher:
    """Compares surfaces at one spacing and tolerance, in volumes whose axes were put into another order."""

    spacing: Spacing
    tolerance: float  # mm
    shape: tuple[int, ...]  # of the whole volume
    axes: Axes = (0, 1, 2)  # which of them is now first, second, third

    @cached_property
    def turned_spacing(self) -> Spacing:
        return tuple(self.spacing[axis] for axis in self.axes)

    @cached_property
    def offsets(self) -> np.ndarray:
        """(K, 3) steps on the grid no longer than the tolerance, nearest first; none leads out of the volume."""
        # One step too many, since the quotient may be rounded down across a whole number.
        most = [int(min(self.tolerance / step + 1, size)) for step, size in zip(self.spacing, self.shape)]
        steps = np.stack(np.meshgrid(*(np.arange(-far, far + 1) for far in most), indexing="ij"), -1).reshape(-1, 3)
        # The same sum in the same order as scipy's distance transform, so that a distance equal to the tolerance
        # is rounded alike.
        lengths = np.sqrt(((steps * np.array(self.spacing)) ** 2).sum(axis=1))
        nearest_first = np.argsort(lengths, kind="stable")
        return steps[nearest_first[: np.count_nonzero(lengths <= self.tolerance)]][:, self.axes]

    @cached_property
    def reach(self) -> tuple[int, int, int]:
        """The farthest steps along each axis."""
        return tuple(int(most) for most in np.abs(self.offsets).max(axis=0))

    @property
    def margin(self) -> int:
        """Planes that a slab must hold before and behind its own: the surface needs one more than the offsets."""
        return self.reach[0] + 1

    def areas(self, truth: np.ndarray, prediction: np.ndarray, own: slice, is_last: bool) -> Areas:
        """Of the elements before each of the slab's `own` planes, and of those behind the volume's last one.

        `truth`, `prediction`: (T, H, W) bool, own planes with their margins.
        """
        box = box_of(truth, prediction)
        if box is None:
            return Areas(0.0, 0.0)
        own = slice(own.start, own.stop + is_last)
        codes = [_cell_codes(mask[:, box[0], box[1]]) for mask in (truth, prediction)]
        # Where the volume goes on behind the margin the outermost elements are wrong; they are out of reach.
        present = [(code != ALL_OUTSIDE) & (code != ALL_INSIDE) for code in codes]
        total = Areas(0.0, 0.0)
        for code, here, there in ((codes[0], *present), (codes[1], *reversed(present))):
            elements = np.flatnonzero(here[own]) + own.start * here[0].size
            areas = surface_areas(self.turned_spacing)[code.ravel()[elements]]
            total += Areas(float(areas.sum()), self._unmatched(elements, areas, there))
        return total

    def _unmatched(self, elements: np.ndarray, areas: np.ndarray, other: np.ndarray) -> float:
        """mm2 of the elements that have none of `other` within the tolerance.

        `elements`: (E,) places in the flat grid; `areas`: (E,) mm2; `other`: (T+1, H+1, W+1) bool.
        """
        if not len(elements) or not other.any():
            return float(areas.sum())
        if len(self.offsets) * len(elements) > LOOKUPS_PER_TRANSFORMED_VOXEL * other.size:
            distances = ndimage.distance_transform_edt(~other, sampling=self.turned_spacing)
            return float(areas[distances.ravel()[elements] > self.tolerance].sum())
        return self._unmatched_by_lookup(elements, areas, other)

    def _unmatched_by_lookup(self, elements: np.ndarray, areas: np.ndarray, other: np.ndarray) -> float:
        # Most elements coincide; only the others need the grid with a margin, from which no offset leads out, nor
        # around to the next row of its flat view.
        unmatched = ~other.ravel()[elements]
        elements, areas = elements[unmatched], areas[unmatched]
        lookup = np.pad(other, [(steps, steps) for steps in self.reach])
        places = np.unravel_index(elements, other.shape)
        elements = np.ravel_multi_index([place + steps for place, steps in zip(places, self.reach)], lookup.shape)
        _, rows, columns = lookup.shape
        lookup = lookup.ravel()
        for step in self.offsets[1:] @ np.array([rows * columns, columns, 1]):
            unmatched = ~lookup[elements + step]
            elements, areas = elements[unmatched], areas[unmatched]
        return float(areas.sum())


def _cell_codes(mask: np.ndarray) -> np.ndarray:
    """(T+1, H+1, W+1) uint8: the eight voxels around each corner of the grid, a bit each."""
    codes = np.pad(mask.view(np.uint8), 1)
    # Two neighbors make a code of two bits, two of these one of four, two of these one of eight.
    codes = codes[:, :, :-1] << 1 | codes[:, :, 1:]
    codes = codes[:, :-1] << 2 | codes[:, 1:]
    return codes[:-1] << 4 | codes[1:]
