"""The free-response curve: how many lesions are found when only predictions that are sure enough count.

Predicted lesions are the 3-D components of a label map, and what they find is decided as in `lesions.py`. Each has a
score, the mean probability of its voxels. Of those with at least a certain score the curve shows the share of true
lesions that they overlap, against how many of them, a case, overlap none; the end of the curve, where all count, is the
table of lesions found. The mean, not the largest probability: that of a large lesion is always near 1, so that the
most probable false ones could not be told apart, and a single voxel would decide.

Method: Chakraborty and Winter, Radiology 174 (1990), with the components as marks. Scores come from 8-bit levels, so
that they are the same however a case was cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class LesionScores:
    """Of one class's lesions in a case, the surest first."""

    found: list[float] = field(default_factory=list)  # of true ones: of the surest prediction that overlaps it
    false: list[float] = field(default_factory=list)  # of predicted ones that overlap none


@dataclass(frozen=True)
class Froc:
    """A curve over all cases: one point for each score that changes it, the surest first."""

    score: list[float]  # the lowest that counts
    sensitivity: list[float]  # share of the true lesions that is found
    false_per_case: list[float]


def froc(cases: Sequence[LesionScores], true: int) -> Froc:
    """`true`: how many true lesions all these cases have, one at least."""
    found, false = (np.array([score for case in cases for score in getattr(case, side)]) for side in ("found", "false"))
    scores = np.unique(np.concatenate([found, false]))[::-1]
    hits, misses = (np.searchsorted(np.sort(-some), -scores, side="right") for some in (found, false))
    return Froc(scores.tolist(), (hits / true).tolist(), (misses / len(cases)).tolist())
