"""What the decoders answered about a case, beside the labels that came of it.

A label map keeps the class of each voxel and forgets how sure it was, and where a decoder was not asked at all. Kept
here are, for each decoder, its voxels by probability and truth (`reliability.py`), and of each lesion class the true
voxels and how sure the labels were of each lesion (`froc.py`). Reading them needs no torch.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from kitsam.ct.labels import TARGETS, TUMOR, Target
from kitsam.evaluation.froc import LesionScores
from kitsam.evaluation.reliability import Reliability, reliability

Lesion = Literal["tumor", "cyst"]


@dataclass(frozen=True)
class Answers:
    """Of a scored case; a decoder that there is not has no entry."""

    reliability: dict[Target, Reliability]
    true_voxels: dict[Lesion, int]  # of the whole case
    lesion_scores: dict[Lesion, LesionScores]

    def asked_voxels(self, lesion: Lesion) -> int | None:
        """The true ones that lie in a box with which the lesion's decoder was asked; None without such a decoder."""
        return sum(self.reliability[lesion].true) if lesion in self.reliability else None

    def roi_recall(self, lesion: Lesion) -> float | None:
        """The share of the lesion's voxels that its decoder was asked about; None where there is nothing to share."""
        asked, true = self.asked_voxels(lesion), self.true_voxels[lesion]
        return None if asked is None or not true else asked / true


class Heard(NamedTuple):
    """What is known of a case's answers before they are scored, small enough to be sent to another process."""

    levels: np.ndarray  # (V,) uint8: the probability of each voxel that is called a lesion, in order
    counts: dict[Target, np.ndarray]  # (2, 256) int64: voxels in its decoder's boxes by truth, no or yes, and level

    def volume(self, label: np.ndarray) -> np.ndarray:
        """(S, H, W) uint8: the levels at their places in the labels that they are of, 0 elsewhere."""
        levels = np.zeros_like(label)
        levels[label >= TUMOR] = self.levels
        return levels

    def reliability(self) -> dict[Target, Reliability]:
        return {target: reliability(self.counts[target]) for target in TARGETS if target in self.counts}
