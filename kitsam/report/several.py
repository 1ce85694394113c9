"""Several evaluations side by side: each figure's mean with its interval, and the paired difference to the first.

Paired are cases of the same name whose true volumes are the same; an evaluation of other cases stands beside the first
without a difference, and says why. The p-values are not corrected for how many there are: decide on one figure
beforehand.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from kitsam.evaluation.beside import beside_rows
from kitsam.evaluation.compare import FIGURE_NOTE, LABELS, Comparison, Row, compare, figures_of
from kitsam.evaluation.metrics import CaseScores
from kitsam.evaluation.summary import RESULT_LABELS, Interval, interval_text, result_rows
from kitsam.report.config import REPORT
from kitsam.report.evaluation import Evaluation, now_text
from kitsam.report.rendering import page_templates
from kitsam.system.errors import KitsamError
from kitsam.system.files import write_text

SAME_VOLUME = 1e-4  # of the larger one: truths that differ less are the same, read through other headers
FIRST_FIGURES = ("Dice", "tumor_Dice", "kidney_and_masses_Dice")  # those that are drawn


class Cell(NamedTuple):
    """A figure of one evaluation."""

    mean: float
    interval: Interval | None
    cases: int
    difference: Row | None  # to the first

    @property
    def interval_text(self) -> str:
        return interval_text(self.interval)


@dataclass(frozen=True)
class Side:
    """One of the evaluations."""

    label: str
    evaluation: Evaluation
    report: str | None  # from the page to its report, where there is one
    comparison: Comparison | None
    problem: str | None  # why it is not compared with the first
    cells: Mapping[str, Cell]  # by the names in LABELS


class Bar(NamedTuple):
    """A difference with its interval, in percent of the picture's width."""

    label: str
    low: float
    middle: float
    high: float
    text: str


def write_comparison_page(path: Path, evaluations: Sequence[Evaluation]) -> None:
    sides = compare_sides(path, evaluations)
    templates = page_templates()
    values = {
        "sides": sides,
        "labels": {name: label for name, label in LABELS.items() if any(name in side.cells for side in sides)},
        "figure_note": FIGURE_NOTE,
        "drawn": {LABELS[name]: difference_bars(sides, name) for name in FIRST_FIGURES},
        "paper": all(side.evaluation.is_like_the_papers for side in sides),
        "paper_figures": {row.label: row.paper_text for row in result_rows(evaluations[0].metrics.scores, True)},
        "now": now_text(),
    }
    write_text(path, templates.get_template("several.html").render(values))


def compare_sides(path: Path, evaluations: Sequence[Evaluation]) -> list[Side]:
    first, *_ = evaluations
    labels = labels_of([evaluation.folder for evaluation in evaluations])
    return [
        _side(path, label, evaluation, None if evaluation is first else first)
        for label, evaluation in zip(labels, evaluations)
    ]


def labels_of(folders: Sequence[Path]) -> list[str]:
    """The folders without what all their paths begin and end with."""
    parts = [folder.absolute().parts for folder in folders]
    while all(len(one) > 1 for one in parts) and len({one[-1] for one in parts}) == 1:
        parts = [one[:-1] for one in parts]
    while all(len(one) > 1 for one in parts) and len({one[0] for one in parts}) == 1:
        parts = [one[1:] for one in parts]
    return ["/".join(one) for one in parts]


def _side(path: Path, label: str, evaluation: Evaluation, first: Evaluation | None) -> Side:
    comparison, problem = None, None
    if first is not None:
        try:
            comparison = _compare(evaluation.metrics.scores, first)
        except KitsamError as error:
            problem = str(error)
    report = evaluation.folder / REPORT
    there = report.is_file() and not report.samefile(path) if path.is_file() else report.is_file()
    link = quote(os.path.relpath(report, path.absolute().parent)) if there else None
    return Side(label, evaluation, link, comparison, problem, _cells(evaluation.metrics.scores, comparison))


def _compare(scores: Mapping[str, CaseScores], first: Evaluation) -> Comparison:
    """Raises `KitsamError` where fewer than two cases are the same."""
    others = first.metrics.scores
    strangers = [name for name in sorted(scores.keys() & others.keys()) if not _same_truth(scores[name], others[name])]
    if strangers:
        raise KitsamError(f"{strangers[0]} has other true labels than in {first.folder}: these are not the same cases")
    here, there = ({name: figures_of(case) for name, case in some.items()} for some in (scores, others))
    return compare(here, there, str(first.folder))


def _same_truth(one: CaseScores, other: CaseScores) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("true_kidney_ml", "true_tumor_ml", "true_cyst_ml")]
    return all(abs(here - there) <= SAME_VOLUME * max(here, there) for here, there in pairs)


def _cells(scores: Mapping[str, CaseScores], comparison: Comparison | None) -> dict[str, Cell]:
    differences = {row.figure: row for row in comparison.rows} if comparison else {}
    cells = {
        name: Cell(row.mean, row.interval, len(scores), differences.get(name))
        for name, row in zip(RESULT_LABELS, result_rows(scores))
    }
    for name, row in beside_rows(scores).items():
        cells[name] = Cell(row.mean, row.interval_95, row.cases, differences.get(name))
    return cells


def difference_bars(sides: Sequence[Side], figure: str) -> tuple[float, list[Bar]]:
    """The reach of the axis to either side, and a bar for each evaluation that is compared."""
    rows = [(side.label, cell.difference) for side in sides if (cell := side.cells.get(figure)) and cell.difference]
    return draw_bars([(label, row.difference, row.interval_95) for label, row in rows])


LEAST_REACH = 0.01  # of the axis, in Dice, so that no differences at all look like none


def draw_bars(rows: Sequence[tuple[str, float, tuple[float, float]]]) -> tuple[float, list[Bar]]:
    """`rows`: label, difference, its interval."""
    reach = max([LEAST_REACH, *(abs(end) for _, _, interval in rows for end in interval)])
    bars = []
    for label, difference, (low, high) in rows:
        places = (50 + 50 * value / reach for value in (low, difference, high))
        bars.append(Bar(label, *places, f"{difference:+.3f}"))
    return reach, bars
