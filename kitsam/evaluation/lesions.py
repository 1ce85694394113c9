"""Lesion by lesion: which of them were found, which were missed, and what was called a lesion and is none.

A lesion is a 3-D component (26 neighbors) of tumor, or of cyst. It is found when the prediction of the same class
overlaps it anywhere, be it in one voxel; a predicted component that overlaps none of its class is a false one. That is
the rule of the autoPET challenge (lab-midas/autoPET, `val_script.py`, which joins 18 neighbors instead of 26);
how well a lesion is outlined is for Dice to say. Sizes are classed by the diameter of the ball that has the lesion's
volume; 4 and 7 cm are where the T stages of kidney cancer change. Nothing is too small to count.

Components are found slab by slab and joined where slabs meet.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from kitsam.ct.boxes import box_of
from kitsam.ct.parts import CORNERS, Parts
from kitsam.evaluation.slabs import Slab

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
        self.parts = Parts(CORNERS, plane)
        self.sizes: list[np.ndarray] = []
        self.overlaps: list[np.ndarray] = []

    def add(self, mask: np.ndarray, other: np.ndarray, slab: Slab) -> None:
        """`mask`, `other`: (T, H, W) bool, the slab's own planes."""
        box = box_of(mask)
        if box is None:
            return
        mask, other = (np.ascontiguousarray(some[:, box[0], box[1]]) for some in (mask, other))
        rows, columns = (slice(part.start + cut.start, part.start + cut.stop) for part, cut in zip(slab[-2:], box))
        numbers, count = self.parts.number(mask, (slice(slab.start, slab.start + len(mask)), rows, columns))
        for counts, some in ((self.sizes, mask), (self.overlaps, other & mask)):
            counts.append(np.bincount(numbers[some], minlength=count + 1)[1:])

    def join(self) -> tuple[np.ndarray, np.ndarray]:
        """(N,) voxels of each component, and (N,) those that the other mask shares."""
        if not self.parts.count:
            return np.zeros(0, int), np.zeros(0, int)
        part, count = self.parts.join()
        return tuple(
            np.bincount(part, weights=np.concatenate(counts), minlength=count).astype(int)
            for counts in (self.sizes, self.overlaps)
        )
