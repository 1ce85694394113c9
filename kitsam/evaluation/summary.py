"""What the scores of many cases come to: means with intervals, the paper's beside them, and lesions found.

The averages are plain means over cases, so that a small tumor counts as much as a large one. A group of classes that
no case has is scored all the same, as the official evaluator does it: 1 for each case in which nothing is called so.
Such figures say nothing about what they are named for, and are marked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from rich.table import Table

from kitsam.ct.labels import CLASS_NAMES
from kitsam.evaluation.bootstrap import mean_intervals
from kitsam.evaluation.lesions import SIZE_NAMES, Detection, detection
from kitsam.evaluation.metrics import COLUMNS, GROUPS, SUMMARY, CaseScores, summary_of

Interval = tuple[float, float]

# TransferSAM, on the test cases of the KiTS23 challenge, which are not public; it was trained on 90 % of the others.
PAPER_NOTE = "paper: TransferSAM, on the test cases of KiTS23, not on these"
PAPER = {
    "Dice": 0.432,
    "surface_Dice": 0.239,
    "tumor_Dice": 0.222,
    "kidney_and_masses_Dice": 0.807,
    "masses_Dice": 0.268,
}
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
# Which figures rest on a group of classes, beside the two means of all groups.
MEANS = ("Dice", "surface_Dice")
GROUP_FIGURES = {
    "kidney_and_mass": ("kidney_and_masses_Dice", "SD_kidney"),
    "mass": ("masses_Dice", "SD_masses"),
    "tumor": ("tumor_Dice", "SD_tumor"),
}


@dataclass(frozen=True)
class ResultRow:
    label: str
    mean: float
    interval: Interval | None  # of the mean, 95 %
    median: float
    lowest: float
    paper: float | None

    @property
    def interval_text(self) -> str:
        return interval_text(self.interval)

    @property
    def paper_text(self) -> str:
        return "" if self.paper is None else f"{self.paper:.3f}"


def interval_text(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}"


def averages(scores: Mapping[str, CaseScores]) -> dict[str, float]:
    """The mean over cases of each of COLUMNS."""
    return {column: fmean(case.columns[column] for case in scores.values()) for column in COLUMNS}


def summarize(scores: Mapping[str, CaseScores]) -> dict[str, float]:
    """The five figures that results are told by, by the names in SUMMARY."""
    return summary_of(averages(scores))


def figures(case: CaseScores) -> dict[str, float]:
    """One case's value of each of RESULT_LABELS."""
    values = {**case.summary, **case.columns}
    return {name: values[name] for name in RESULT_LABELS}


def intervals(scores: Mapping[str, CaseScores]) -> dict[str, Interval | None]:
    """95 % bootstrap intervals of the means of RESULT_LABELS; None for a single case."""
    values = np.array([list(figures(case).values()) for _, case in sorted(scores.items())])
    bounds = mean_intervals(values).tolist()
    return {name: None if np.isnan(low) else (low, high) for name, (low, high) in zip(RESULT_LABELS, bounds)}


def result_rows(scores: Mapping[str, CaseScores], paper: bool = False) -> list[ResultRow]:
    """One row a figure, in the order of RESULT_LABELS. `paper`: with its figures, for cases of KiTS23."""
    rows, bounds = [], intervals(scores)
    for name, label in RESULT_LABELS.items():
        values = [figures(case)[name] for case in scores.values()]
        beside = PAPER.get(name) if paper else None
        rows.append(ResultRow(label, fmean(values), bounds[name], median(values), min(values), beside))
    return rows


def absent_groups(scores: Mapping[str, CaseScores]) -> list[str]:
    """The groups of classes of which no case has a voxel."""
    return [
        group
        for group, classes in GROUPS.items()
        if not any(getattr(case, f"true_{CLASS_NAMES[label]}_ml") for case in scores.values() for label in classes)
    ]


def detections(scores: Mapping[str, CaseScores]) -> dict[str, Detection]:
    """Of tumors and of cysts."""
    return {kind: detection([getattr(case, kind) for case in scores.values()]) for kind in ("tumors", "cysts")}


def results_table(scores: Mapping[str, CaseScores], paper: bool = False) -> Table:
    """The summary, then the surface Dice of each group. `paper`: beside its figures, for cases of KiTS23."""
    caption = ["95 %: bootstrap interval of the mean", *([PAPER_NOTE] if paper else [])]
    absent = absent_groups(scores)
    marked = {label for group in absent for label in GROUP_FIGURES[group]} | {*(MEANS if absent else ())}
    if absent:
        classes = ", ".join(" and ".join(CLASS_NAMES[label] for label in GROUPS[group]) for group in absent)
        caption.append(f"*: no case has {classes}, and a case counts 1 where nothing is called so")
    table = Table(
        title=f"Official KiTS23 metrics, cases: {len(scores)}",
        caption="\n".join(caption),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("")
    for name in ("mean", "95 %", "median", "lowest", *(["paper"] if paper else [])):
        table.add_column(name, justify="right")
    for index, (name, row) in enumerate(zip(RESULT_LABELS, result_rows(scores, paper)), start=1):
        label = f"{row.label} *" if name in marked else row.label
        cells = [f"{row.mean:.3f}", row.interval_text, f"{row.median:.3f}", f"{row.lowest:.3f}"]
        cells += [row.paper_text] if paper else []
        table.add_row(label, *cells, end_section=index == len(SUMMARY))
    return table


def detection_table(scores: Mapping[str, CaseScores]) -> Table:
    """How many lesions of each size were found, and how many that were called one are none."""
    table = Table(
        title="Lesions found",
        caption="found: the prediction overlaps it; false: predicted, and overlaps none\n"
        "sizes: diameter of a ball of the same volume",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("")
    for name in (*SIZE_NAMES, "all", "false a case"):
        table.add_column(name, justify="right")
    for kind, lesions in detections(scores).items():
        table.add_row(kind, *detection_cells(lesions), f"{lesions.false_per_case:.2f}")
    return table


def detection_cells(lesions: Detection) -> list[str]:
    """Found of true ones for each size class, then for all."""
    pairs = [*zip(lesions.found, lesions.missed), (sum(lesions.found), sum(lesions.missed))]
    return [f"{found} of {found + missed}" if found + missed else "–" for found, missed in pairs]
