"""Figures that the official metrics do not have: Dice of cysts, ROI recall, free-response curves, calibration.

Dice of cysts follows the official rule, by which a case without a cyst counts 1 where none is predicted, and stands a
second time over the cases that have one. ROI recall is the share of a lesion's voxels that lie in the boxes with which
its decoder was asked: what lies outside no lesion decoder can find. The last three need the decoders' answers, which
`kitsam evaluate` has and a folder of label maps has not.
"""

from collections.abc import Mapping
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from kitsam.ct.labels import TARGETS, Target
from kitsam.evaluation.answers import Answers, Lesion
from kitsam.evaluation.bootstrap import mean_intervals
from kitsam.evaluation.froc import Froc, froc
from kitsam.evaluation.metrics import CaseScores
from kitsam.evaluation.reliability import Reliability, together
from kitsam.evaluation.summary import Interval, interval_text

BESIDE_LABELS = {
    "cyst_Dice": "cyst Dice",
    "cyst_Dice_where_present": "cyst Dice, cases with a cyst",
    "ROI_recall_tumor": "ROI recall of tumors",
    "ROI_recall_cyst": "ROI recall of cysts",
}
RECALLED: dict[Lesion, str] = {"tumor": "ROI_recall_tumor", "cyst": "ROI_recall_cyst"}
KINDS: dict[Lesion, str] = {"tumor": "tumors", "cyst": "cysts"}


class BesideRow(NamedTuple):
    """A figure over the cases that have one."""

    label: str
    mean: float
    interval_95: Interval | None  # of the mean
    median: float
    lowest: float
    cases: int
    pooled: float | None = None  # ROI recall: of all cases' voxels together

    @property
    def interval_text(self) -> str:
        return interval_text(self.interval_95)


def beside_figures(case: CaseScores) -> dict[str, float]:
    """Those of BESIDE_LABELS that the case has."""
    values = {"cyst_Dice": case.cyst_dice, "cyst_Dice_where_present": case.cyst_dice if case.true_cyst_ml else None}
    if case.answers is not None:
        values |= {name: case.answers.roi_recall(lesion) for lesion, name in RECALLED.items()}
    return {name: value for name, value in values.items() if value is not None}


def beside_rows(scores: Mapping[str, CaseScores]) -> dict[str, BesideRow]:
    """By the names in BESIDE_LABELS, without those that no case has."""
    figures = [beside_figures(case) for _, case in sorted(scores.items())]
    pooled = {name: pooled_recall(scores, lesion) for lesion, name in RECALLED.items()}
    rows = {}
    for name, label in BESIDE_LABELS.items():
        if values := [case[name] for case in figures if name in case]:
            low, high = mean_intervals(np.array(values)[:, None])[0].tolist()
            interval = None if np.isnan(low) else (low, high)
            row = fmean(values), interval, median(values), min(values), len(values)
            rows[name] = BesideRow(label, *row, pooled.get(name))
    return rows


def pooled_recall(scores: Mapping[str, CaseScores], lesion: Lesion) -> float | None:
    """Of the voxels of all cases together; None where there is none, or nothing was asked."""
    pairs = [(case.asked_voxels(lesion), case.true_voxels[lesion]) for case in _answers(scores)]
    true = sum(true for asked, true in pairs if asked is not None)
    return sum(asked for asked, _ in pairs if asked is not None) / true if true else None


def froc_curves(scores: Mapping[str, CaseScores]) -> dict[Lesion, Froc]:
    """Of the lesions of which there are true ones."""
    answers, curves = _answers(scores), {}
    for lesion, kind in KINDS.items():
        cases = [getattr(case, kind) for case in scores.values() if case.answers is not None]
        true = sum(len(case.found) + len(case.missed) for case in cases)
        if true and any(lesion in case.reliability for case in answers):
            curves[lesion] = froc([case.lesion_scores[lesion] for case in answers], true)
    return curves


def calibration(scores: Mapping[str, CaseScores]) -> dict[Target, Reliability]:
    """Of each decoder over all cases, where it was asked anything."""
    parts = {
        target: [case.reliability[target] for case in _answers(scores) if target in case.reliability]
        for target in TARGETS
    }
    joined = {target: together(some) for target, some in parts.items() if some}
    return {target: one for target, one in joined.items() if one.expected_error is not None}


def _answers(scores: Mapping[str, CaseScores]) -> list[Answers]:
    return [case.answers for case in scores.values() if case.answers is not None]


def beside_entries(scores: Mapping[str, CaseScores]) -> dict[str, Any]:
    """What `metrics.json` holds of all this."""
    entries: dict[str, Any] = {"beside": {name: _row_entry(row) for name, row in beside_rows(scores).items()}}
    if curves := froc_curves(scores):
        entries["froc"] = {KINDS[lesion]: vars(curve) for lesion, curve in curves.items()}
    if decoders := calibration(scores):
        entries["calibration"] = {target: _calibration_entry(one) for target, one in decoders.items()}
    return entries


def _row_entry(row: BesideRow) -> dict[str, Any]:
    entry = row._asdict()
    del entry["label"]
    return {name: value for name, value in entry.items() if value is not None or name != "pooled"}


def _calibration_entry(one: Reliability) -> dict[str, Any]:
    return {
        "expected_error": one.expected_error,
        "probability": one.probabilities,
        "frequency": one.frequencies,
        "voxels": one.voxels,
    }


def beside_table(scores: Mapping[str, CaseScores]) -> Table:
    """The rows, and the calibration errors under them."""
    errors = [f"{target} {one.expected_error:.4f}" for target, one in calibration(scores).items()]
    caption = ["cases: those that have such a lesion; cyst Dice: all"]
    caption += [f"expected calibration error in the boxes asked: {', '.join(errors)}"] if errors else []
    table = Table(
        title="Beside the official metrics", caption="\n".join(caption), title_justify="left", caption_justify="left"
    )
    table.add_column("")
    for name in ("mean", "95 %", "median", "lowest", "cases"):
        table.add_column(name, justify="right")
    for row in beside_rows(scores).values():
        numbers = f"{row.mean:.3f}", row.interval_text, f"{row.median:.3f}", f"{row.lowest:.3f}"
        table.add_row(row.label, *numbers, str(row.cases))
    return table
