"""Lesion by lesion: which of them were found, which were missed, and what was called a lesion and is none.

A lesion is a 3-D component (26 neighbors) of tumor, or of cyst. It is found when the prediction of the same class
overlaps it anywhere, be it in one voxel; a predicted component that overlaps none of its class is a false one. That is
the rule of the autoPET challenge (lab-midas/autoPET, `val_script.py`, which joins 18 neighbors instead of 26);
how well a lesion is outlined is for Dice to say. Sizes are classed by the diameter of the ball that has the lesion's
volume; 4 and 7 cm are where the T stages of kidney cancer change. Nothing is too small to count.

Components are found slab by slab and joined where slabs meet, so that no volume of component numbers (four bytes a
voxel) is ever held.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kitsam.evaluation.slabs import Slab, box_of

TOUCHING = np.ones((3, 3, 3), bool)
# Upper bounds of the diameter in cm; what is larger than all is the last class.
SIZE_LIMITS_CM = (1.0, 2.0, 4.0, 7.0)
SIZE_NAMES = ("<1 cm", "1–2 cm", "2–4 cm", "4–7 cm", "≥7 cm")


@dataclass(frozen=True)
class Lesions:
    """Volumes in mL of one class's lesions in a case, largest first; lists, so that `asdict` and JSON keep them."""

    found: list[float] = field(default_factory=list)  # true ones
    missed: list[float] = field(default_factory=list)  # true ones
    false: list[float] = field(default_factory=list)  # predicted ones


@dataclass(frozen=True)
class Detection:
    """Lesions of one class over all cases."""

    found: list[int]  # true ones, by size class
    missed: list[int]  # true ones, by size class
    false: int
    cases: int

    @property
    def sensitivity(self) -> float | None:
        """The share of the true ones that was found; None where there is none."""
        true = sum(self.found) + sum(self.missed)
        return sum(self.found) / true if true else None

    @property
    def false_per_case(self) -> float:
        return self.false / self.cases


def size_class(volume_ml: float) -> int:
    """Index into SIZE_NAMES."""
    diameter_cm = 2 * (3 * volume_ml / (4 * np.pi)) ** (1 / 3)
    return int(np.searchsorted(SIZE_LIMITS_CM, diameter_cm, side="right"))


def detection(cases: Iterable[Lesions]) -> Detection:
    """Of one class."""
    cases = list(cases)
    found, missed = (
        np.bincount(
            [size_class(ml) for case in cases for ml in getattr(case, side)], minlength=len(SIZE_NAMES)
        ).tolist()
        if any(getattr(case, side) for case in cases)
        else [0] * len(SIZE_NAMES)
        for side in ("found", "missed")
    )
    return Detection(found, missed, sum(len(case.false) for case in cases), len(cases))


class LesionCounter:
    """The lesions of one class, from the slabs of a case in order."""

    def __init__(self, label: int, plane: tuple[int, int]) -> None:
        self.label = label
        self.true, self.predicted = Components(plane), Components(plane)

    def add(self, slab: Slab) -> None:
        truth, prediction = (part[slab.own] == self.label for part in (slab.truth, slab.prediction))
        self.true.add(truth, prediction, slab)
        self.predicted.add(prediction, truth, slab)

    def lesions(self, voxel_ml: float) -> Lesions:
        sizes, overlaps = self.true.join()
        others, hits = self.predicted.join()
        return Lesions(
            *(_volumes(voxels, voxel_ml) for voxels in (sizes[overlaps > 0], sizes[overlaps == 0], others[hits == 0]))
        )


def _volumes(voxels: np.ndarray, voxel_ml: float) -> list[float]:
    return [float(count * voxel_ml) for count in sorted(voxels, reverse=True)]


class Components:
    """3-D components of a mask that comes slab by slab: how many voxels each has, and shares with another mask."""

    def __init__(self, plane: tuple[int, int]) -> None:
        self.sizes: list[np.ndarray] = []
        self.overlaps: list[np.ndarray] = []
        self.links: list[np.ndarray] = []  # (2, N) pairs of numbers that are one component
        self.count = 0  # numbers given so far, from 1 on
        self.end = -1  # the plane after the last one seen
        self.last = np.zeros(plane, np.int32)  # numbers on that last plane

    def add(self, mask: np.ndarray, other: np.ndarray, slab: Slab) -> None:
        """`mask`, `other`: (T, H, W) bool, the slab's own planes."""
        box = box_of(mask)
        if box is not None:
            numbers, parts = ndimage.label(mask[:, box[0], box[1]], TOUCHING)
            numbers[numbers > 0] += self.count
            shared = numbers[other[:, box[0], box[1]]]
            self.sizes.append(np.bincount(numbers.ravel(), minlength=self.count + parts + 1)[self.count + 1 :])
            self.overlaps.append(np.bincount(shared, minlength=self.count + parts + 1)[self.count + 1 :])
            self.count += parts
            rows, columns = (slice(part.start + cut.start, part.start + cut.stop) for part, cut in zip(slab[-2:], box))
            if slab.start == self.end:
                self._link(numbers[0], rows, columns)
        self.last[:] = 0
        if box is not None:
            self.last[rows, columns] = numbers[-1]
        self.end = slab.start + len(mask)

    def _link(self, numbers: np.ndarray, rows: slice, columns: slice) -> None:
        """Join what touches the plane before."""
        before = np.pad(self.last, 1)
        for down, right in product((0, 1, 2), repeat=2):
            above = before[rows.start + down : rows.stop + down, columns.start + right : columns.stop + right]
            both = (above > 0) & (numbers > 0)
            self.links.append(np.unique(np.stack([above[both], numbers[both]]), axis=1))

    def join(self) -> tuple[np.ndarray, np.ndarray]:
        """(N,) voxels of each component, and (N,) those that the other mask shares."""
        if not self.count:
            return np.zeros(0, int), np.zeros(0, int)
        pairs = np.concatenate(self.links, axis=1) - 1 if self.links else np.zeros((2, 0), int)
        graph = coo_array((np.ones(pairs.shape[1], bool), pairs), shape=(self.count, self.count))
        count, which = connected_components(graph, directed=False)
        return tuple(
            np.bincount(which, weights=np.concatenate(parts), minlength=count).astype(int)
            for parts in (self.sizes, self.overlaps)
        )
