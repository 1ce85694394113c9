"""What went wrong, by name: cases left out, cases without a prediction, lesions missed and lesions invented."""

import math
from typing import Any, NamedTuple

from kitsam.evaluation.results import Metrics

MOST_ROWS = 15  # of each table
LOW_DICE = 0.5  # of kidney with masses: a kidney that large was not found, or something else was taken for one


class FailedLesion(NamedTuple):
    case: str
    kind: str
    volume_ml: float
    diameter_cm: float  # of a ball of this volume: metrics.json knows no shape


def what_failed(metrics: Metrics) -> dict[str, Any]:
    """Lesions from the largest on."""
    missed, false = (_lesions(metrics, side) for side in ("missed", "false"))
    low = {name: case.kidney_and_mass_dice for name, case in metrics.scores.items() if not case.missing}
    return {
        "missing": [name for name, case in metrics.scores.items() if case.missing],
        "low": sorted((dice, name) for name, dice in low.items() if dice < LOW_DICE),
        "low_dice": LOW_DICE,
        "lesions": {"Missed lesions": missed, "False lesions": false},
        "most_rows": MOST_ROWS,
    }


def _lesions(metrics: Metrics, side: str) -> list[FailedLesion]:
    lesions = [
        FailedLesion(name, kind, volume, 2 * (3 * volume / (4 * math.pi)) ** (1 / 3))
        for name, case in metrics.scores.items()
        for kind, some in (("tumor", case.tumors), ("cyst", case.cysts))
        for volume in getattr(some, side)
    ]
    return sorted(lesions, key=lambda lesion: (-lesion.volume_ml, lesion.case, lesion.kind))
