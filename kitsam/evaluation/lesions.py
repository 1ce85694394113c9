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
from typing import NamedTuple

import numpy as np

from kitsam.ct.boxes import box_of
from kitsam.ct.parts import CORNERS, Parts
from kitsam.evaluation.froc import LesionScores
from kitsam.evaluation.reliability import LARGEST
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
        self._pairs: list[np.ndarray] = []  # (N, 2) parts of a true and of a predicted lesion that overlap

    def add(self, slab: Slab, levels: np.ndarray | None = None) -> None:
        """`levels`: (T, H, W) uint8, how sure the prediction is of the slab's own voxels."""
        truth, prediction = (part[slab.own] == self.label for part in (slab.truth, slab.prediction))
        pairs = self.true.add(truth, prediction, slab), self.predicted.add(prediction, truth, slab, levels)
        self._pairs.append(np.unique(np.stack(pairs, axis=1), axis=0))

    def lesions(self, voxel_ml: float) -> tuple[Lesions, LesionScores]:
        """The scores say nothing where no levels were given."""
        true, predicted = self.true.join(), self.predicted.join()
        hit, false = true.overlaps > 0, predicted.overlaps == 0
        volumes = (true.voxels[hit], true.voxels[~hit], predicted.voxels[false])
        sure = predicted.levels / (LARGEST * predicted.voxels)
        surest = np.zeros(len(true.voxels))
        ours, theirs = np.concatenate([np.zeros((0, 2), int), *self._pairs]).T
        np.maximum.at(surest, true.whole[ours], sure[predicted.whole[theirs]])
        scores = (sorted(some.tolist(), reverse=True) for some in (surest[hit], sure[false]))
        return Lesions(*(_volumes(voxels, voxel_ml) for voxels in volumes)), LesionScores(*scores)


def _volumes(voxels: np.ndarray, voxel_ml: float) -> list[float]:
    return [float(count * voxel_ml) for count in sorted(voxels, reverse=True)]


class Joined(NamedTuple):
    """Components of a whole case."""

    whole: np.ndarray  # (P,) which of them each part belongs to
    voxels: np.ndarray  # (N,) of each
    overlaps: np.ndarray  # (N,) those that the other mask shares
    levels: np.ndarray  # (N,) sum over the voxels


class Components:
    """3-D components of a mask that comes slab by slab, what they share with another mask, and their levels."""

    def __init__(self, plane: tuple[int, int]) -> None:
        self.parts = Parts(CORNERS, plane)
        self._sums: list[np.ndarray] = []  # (3, P) of each slab's parts, in the order of `Joined`

    def add(self, mask: np.ndarray, other: np.ndarray, slab: Slab, levels: np.ndarray | None = None) -> np.ndarray:
        """(V,) which part, counted over all slabs, each of the voxels lies in that both masks have.

        `mask`, `other`: (T, H, W) bool, `levels`: (T, H, W) uint8, of the slab's own planes.
        """
        box = box_of(mask)
        if box is None:
            return np.zeros(0, int)
        mask, other = (np.ascontiguousarray(some[:, box[0], box[1]]) for some in (mask, other))
        rows, columns = (slice(part.start + cut.start, part.start + cut.stop) for part, cut in zip(slab[-2:], box))
        before = self.parts.count
        numbers, count = self.parts.number(mask, (slice(slab.start, slab.start + len(mask)), rows, columns))
        inside, shared = numbers[mask], numbers[other & mask]
        sums = [np.bincount(some, minlength=count + 1) for some in (inside, shared)]
        weights = np.zeros(len(inside)) if levels is None else levels[:, box[0], box[1]][mask]
        # As float64, in which whole numbers up to 2**53 are exact.
        sums.append(np.bincount(inside, weights, minlength=count + 1))
        self._sums.append(np.stack(sums)[:, 1:])
        return shared.astype(int) + (before - 1)

    def join(self) -> Joined:
        if not self.parts.count:
            return Joined(*np.zeros((4, 0), int))
        whole, count = self.parts.join()
        sums = np.concatenate(self._sums, axis=1)
        return Joined(whole, *(np.bincount(whole, some, minlength=count).astype(int) for some in sums))
