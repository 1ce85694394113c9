"""The official KiTS23 metrics of a case, and the files and the table that they end in.

Three groups of classes overlap (kidney with all masses, masses, tumor); each is scored by Dice and by surface Dice at
a tolerance that KiTS took from the disagreement of its annotators. A group that truth and prediction both lack scores
1, one that only one of them lacks scores 0. The averages are plain means over cases, so that a small tumor counts as
much as a large one. Only the box around all labels is looked at.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from rich.table import Table

from kitsam import __version__
from kitsam.errors import KitsamError
from kitsam.evaluation.surface_dice import Spacing, bounding_box, surface_dice
from kitsam.files import complete_or_absent, read_json, write_json
from kitsam.kits.case import CLASS_NAMES, CYST, KIDNEY, TUMOR

FORMAT_VERSION = 1
CSV_NAME, JSON_NAME = "metrics.csv", "metrics.json"

GROUPS = {"kidney_and_mass": (KIDNEY, TUMOR, CYST), "mass": (TUMOR, CYST), "tumor": (TUMOR,)}
TOLERANCES_MM = {"kidney_and_mass": 1.0330772532390826, "mass": 1.1328796488598762, "tumor": 1.1498198361434828}
CLASSES = (KIDNEY, TUMOR, CYST)
COLUMNS = ("Dice_kidney", "Dice_masses", "Dice_tumor", "SD_kidney", "SD_masses", "SD_tumor")

SUMMARY = ("Dice", "surface_Dice", "tumor_Dice", "kidney_and_masses_Dice", "masses_Dice")
# TransferSAM, on the test cases of the KiTS23 challenge, which are not public.
PAPER = {
    "Dice": 0.432,
    "surface_Dice": 0.239,
    "tumor_Dice": 0.222,
    "kidney_and_masses_Dice": 0.807,
    "masses_Dice": 0.268,
}


@dataclass(frozen=True)
class CaseScores:
    """Plain numbers, so that `asdict` and JSON keep them."""

    kidney_and_mass_dice: float
    mass_dice: float
    tumor_dice: float
    kidney_and_mass_surface_dice: float
    mass_surface_dice: float
    tumor_surface_dice: float
    true_kidney_ml: float
    true_tumor_ml: float
    true_cyst_ml: float
    predicted_kidney_ml: float
    predicted_tumor_ml: float
    predicted_cyst_ml: float
    missing: bool = False  # no prediction was there to be scored

    @property
    def columns(self) -> dict[str, float]:
        """The six scores by the names in COLUMNS."""
        names = [f"{group}_{score}" for score in ("dice", "surface_dice") for group in GROUPS]
        return {column: getattr(self, name) for column, name in zip(COLUMNS, names)}

    @property
    def summary(self) -> dict[str, float]:
        """The five figures by the names in SUMMARY."""
        return _summary_of(self.columns)


@dataclass(frozen=True)
class Metrics:
    """What `metrics.json` holds."""

    kitsam: str  # version that scored
    scores: dict[str, CaseScores]
    skipped: dict[str, str]  # case -> why it could not be scored
    settings: dict[str, Any]


def score_case(
    truth: np.ndarray,  # (S, H, W) uint8 labels
    prediction: np.ndarray,  # (S, H, W) uint8 labels
    spacing: Spacing,
) -> CaseScores:
    """Both in the same frame and of the same shape, which is the caller's to check."""
    box = bounding_box(truth, prediction) or (slice(0),) * 3
    # Files are read with their first axis fastest in memory; what follows goes along the last one.
    truth, prediction = np.ascontiguousarray(truth[box]), np.ascontiguousarray(prediction[box])
    scores: dict[str, float] = {}
    for name, classes in GROUPS.items():
        group = _score_group(_is_in(truth, classes), _is_in(prediction, classes), spacing, TOLERANCES_MM[name])
        scores[f"{name}_dice"], scores[f"{name}_surface_dice"] = group
    return CaseScores(**scores, **_volumes("true", truth, spacing), **_volumes("predicted", prediction, spacing))


def missing_prediction(truth: np.ndarray, spacing: Spacing) -> CaseScores:
    """A case that was to be predicted and was not: 0 in everything, even in groups that the truth lacks."""
    return CaseScores(
        *[0.0] * len(COLUMNS),
        **_volumes("true", truth, spacing),
        **_volumes("predicted", np.zeros_like(truth), spacing),
        missing=True,
    )


def _is_in(labels: np.ndarray, classes: tuple[int, ...]) -> np.ndarray:
    mask = labels == classes[0]
    for label in classes[1:]:
        mask |= labels == label
    return mask


def _score_group(truth: np.ndarray, prediction: np.ndarray, spacing: Spacing, tolerance: float) -> tuple[float, float]:
    """Dice and surface Dice."""
    true, predicted = np.count_nonzero(truth), np.count_nonzero(prediction)
    if not true and not predicted:
        return 1.0, 1.0
    if not true or not predicted:
        return 0.0, 0.0
    dice = 2 * np.count_nonzero(truth & prediction) / (true + predicted)
    return dice, surface_dice(truth, prediction, spacing, tolerance)


def _volumes(side: str, labels: np.ndarray, spacing: Spacing) -> dict[str, float]:
    """The fields of CaseScores that hold the volumes of one side, true or predicted."""
    voxel_ml = float(np.prod(spacing)) / 1000
    return {f"{side}_{CLASS_NAMES[label]}_ml": np.count_nonzero(labels == label) * voxel_ml for label in CLASSES}


def averages(scores: Mapping[str, CaseScores]) -> dict[str, float]:
    """The mean over cases of each of COLUMNS."""
    return {column: fmean(case.columns[column] for case in scores.values()) for column in COLUMNS}


def summarize(scores: Mapping[str, CaseScores]) -> dict[str, float]:
    """The five figures that results are told by, by the names in SUMMARY."""
    return _summary_of(averages(scores))


def _summary_of(columns: Mapping[str, float]) -> dict[str, float]:
    return {
        "Dice": fmean(columns[name] for name in COLUMNS[:3]),
        "surface_Dice": fmean(columns[name] for name in COLUMNS[3:]),
        "tumor_Dice": columns["Dice_tumor"],
        "kidney_and_masses_Dice": columns["Dice_kidney"],
        "masses_Dice": columns["Dice_masses"],
    }


def write_metrics(
    out: Path, scores: Mapping[str, CaseScores], settings: dict[str, Any], skipped: dict[str, str]
) -> None:
    """`metrics.csv`, as the official evaluator writes it, and `metrics.json`, which says more.

    Raises `KitsamError` when no case was scored: there is nothing to average.
    """
    if not scores:
        raise KitsamError("no case could be scored: " + "; ".join(skipped.values() or ["there was none"]))
    scores = {name: scores[name] for name in sorted(scores)}
    average = averages(scores)
    with complete_or_absent(out / CSV_NAME) as temporary:
        _write_csv(temporary, scores, average)
    content = {
        "format": FORMAT_VERSION,
        "kitsam": __version__,
        "summary": summarize(scores),
        "average": average,
        "cases": [_case_entry(name, case) for name, case in scores.items()],
        "skipped": skipped,
        "settings": settings,
    }
    write_json(out / JSON_NAME, content)


def _write_csv(path: Path, scores: Mapping[str, CaseScores], average: dict[str, float]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["caseID", *COLUMNS])
        for name, case in scores.items():
            writer.writerow([name, *case.columns.values()])
        writer.writerow(["average", *average.values()])


def _case_entry(name: str, case: CaseScores) -> dict[str, Any]:
    names = [CLASS_NAMES[label] for label in CLASSES]
    volumes = {side: {name: getattr(case, f"{side}_{name}_ml") for name in names} for side in ("true", "predicted")}
    return {"case": name, **case.columns, "volumes_ml": volumes, "missing": case.missing}


def read_metrics(folder: Path) -> Metrics:
    """Raises `KitsamError` naming the file when it is missing or is no `metrics.json` of this format."""
    path = folder / JSON_NAME
    if not path.is_file():
        raise KitsamError(f"{path}: no such file: run `kitsam evaluate` or `kitsam score` first")
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT_VERSION:
        raise KitsamError(f"{path}: not a metrics file of format {FORMAT_VERSION}")
    try:
        scores = {entry["case"]: _case_scores(entry) for entry in content["cases"]}
        metrics = Metrics(content["kitsam"], scores, dict(content["skipped"]), dict(content["settings"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise KitsamError(f"{path}: damaged: {error!r}") from error
    if not scores:
        raise KitsamError(f"{path}: holds no case")
    return metrics


def _case_scores(entry: dict[str, Any]) -> CaseScores:
    volumes = {
        f"{side}_{name}_ml": float(ml)
        for side, by_class in entry["volumes_ml"].items()
        for name, ml in by_class.items()
    }
    return CaseScores(*(float(entry[column]) for column in COLUMNS), **volumes, missing=bool(entry.get("missing")))


def results_table(scores: Mapping[str, CaseScores]) -> Table:
    """The summary beside the paper's figures, then the surface Dice of each group."""
    table = Table(
        title=f"Official KiTS23 metrics, cases: {len(scores)}",
        caption="paper: TransferSAM, on the test cases of KiTS23, not on these",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("")
    for name in ("mean", "median", "lowest", "paper"):
        table.add_column(name, justify="right")
    for index, row in enumerate(result_rows(scores), start=1):
        figures = (f"{value:.3f}" for value in (row.mean, row.median, row.lowest))
        table.add_row(row.label, *figures, row.paper_text, end_section=index == len(SUMMARY))
    return table


RESULT_LABELS = {
    "Dice": "Dice",
    "surface_Dice": "surface Dice",
    "tumor_Dice": "tumor Dice",
    "kidney_and_masses_Dice": "kidney and masses Dice",
    "masses_Dice": "masses Dice",
    "SD_kidney": "kidney and masses surface Dice",
    "SD_masses": "masses surface Dice",
    "SD_tumor": "tumor surface Dice",
}


@dataclass(frozen=True)
class ResultRow:
    label: str
    mean: float
    median: float
    lowest: float
    paper: float | None

    @property
    def paper_text(self) -> str:
        return "" if self.paper is None else f"{self.paper:.3f}"


def result_rows(scores: Mapping[str, CaseScores]) -> list[ResultRow]:
    """One row a figure, in the order of RESULT_LABELS."""
    rows = []
    for name, label in RESULT_LABELS.items():
        values = [{**case.summary, **case.columns}[name] for case in scores.values()]
        rows.append(ResultRow(label, fmean(values), median(values), min(values), PAPER.get(name)))
    return rows
