"""How far a decoder's probabilities can be believed: of the voxels that it gives 0.7, are seven in ten its target?

Counted are the voxels inside the boxes that it was asked with, each with the probability to 8 bits (`LEVELS`) and
whether the truth has it. Levels go together to sixteen bins of sixteen levels. All are whole numbers, so that cases and
parts of cases, whoever counted them, add up exactly.

The expected calibration error is the mean distance of a bin's frequency from its mean probability, each bin with the
weight of its voxels (Naeini, Cooper and Hauskrecht, AAAI 2015). Most of a box is plainly something else, so that the
error is small wherever a decoder knows that; the bins in the middle tell more.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

LEVELS = 256  # level k stands for the probability k / 255, rounded to the nearest
BINS = 16
LARGEST = LEVELS - 1


@dataclass(frozen=True)
class Reliability:
    """Of one decoder, by bin; lists, so that `asdict` and JSON keep them."""

    voxels: list[int]
    true: list[int]  # of these voxels, those that are its target
    levels: list[int]  # sum over these voxels

    @property
    def probabilities(self) -> list[float | None]:
        """The mean one of each bin; None in an empty bin."""
        return [level / (LARGEST * count) if count else None for level, count in zip(self.levels, self.voxels)]

    @property
    def frequencies(self) -> list[float | None]:
        """The share of each bin's voxels that is the target; None in an empty bin."""
        return [true / count if count else None for true, count in zip(self.true, self.voxels)]

    @property
    def expected_error(self) -> float | None:
        """None where nothing was asked."""
        if not sum(self.voxels):
            return None
        return sum(abs(true - level / LARGEST) for true, level in zip(self.true, self.levels)) / sum(self.voxels)


def reliability(counts: np.ndarray) -> Reliability:
    """`counts`: (2, 256) int64, the voxels by truth, no or yes, and level."""
    binned, levels = (some.reshape(2, BINS, -1).sum(axis=2) for some in (counts, counts * np.arange(LEVELS)))
    return Reliability(binned.sum(axis=0).tolist(), binned[1].tolist(), levels.sum(axis=0).tolist())


def together(parts: Iterable[Reliability]) -> Reliability:
    """Of all voxels of one or more parts."""
    columns = [(part.voxels, part.true, part.levels) for part in parts]
    return Reliability(*np.sum(columns, axis=0).tolist())
