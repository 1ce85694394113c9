"""`--against`, of `kitsam score` and `kitsam evaluate`: the same cases, scored twice.

Case by case the difference of each figure, its mean with a bootstrap interval, and the Wilcoxon signed-rank test: how
likely ranks of differences as one-sided as these are, were the two alike. Pairing takes out what makes cases hard for
both, so that a small but steady gain shows with a dozen cases. Cases that only one of the two has are left out and
named; a figure that not all cases have, such as ROI recall of cysts, is compared over those that have it. The figures
hang together (Dice is the mean of three others), so their p-values are no independent findings: decide on one figure
beforehand, such as Dice.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
from rich.table import Table

from kitsam.evaluation.beside import BESIDE_LABELS, beside_figures
from kitsam.evaluation.bootstrap import mean_intervals
from kitsam.evaluation.metrics import CaseScores, summary_of
from kitsam.evaluation.results import CSV_NAME, JSON_NAME, read_csv, read_metrics
from kitsam.evaluation.summary import RESULT_LABELS, figures
from kitsam.system.console import say, warn
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import write_json
from kitsam.system.records import read_record

FILE_NAME = "comparison.json"
FIGURE_NOTE = "Difference: mean over cases, with its 95 % bootstrap interval. p: Wilcoxon signed-rank test, two-sided"
LABELS = {**RESULT_LABELS, **BESIDE_LABELS}
Figures = Mapping[str, float]  # of a case, by the names in LABELS


class Difference(NamedTuple):
    mean: float
    interval: tuple[float, float]  # of the mean, 95 %
    p_value: float


@dataclass(frozen=True)
class Row:
    figure: str  # of LABELS
    mean: float
    against: float
    difference: float
    interval_95: tuple[float, float]
    p_value: float
    better: int  # cases
    worse: int  # cases
    cases: int | None = None  # that have the figure; older files do not tell, since all had

    @property
    def label(self) -> str:
        return LABELS[self.figure]

    @property
    def interval_text(self) -> str:
        return f"{self.interval_95[0]:+.3f} to {self.interval_95[1]:+.3f}"


@dataclass(frozen=True)
class Comparison:
    against: str
    cases: list[str]  # that both have
    only_here: list[str]
    only_there: list[str]
    rows: list[Row]
    zero_shot: bool = False  # whether the other one is the baseline without training

    def label(self, row: Row) -> str:
        """With the number of cases where these are not all."""
        return row.label if row.cases in (None, len(self.cases)) else f"{row.label} ({row.cases} cases)"


class Others(NamedTuple):
    """What `--against` names."""

    figures: Mapping[str, Figures]  # by case
    zero_shot: bool = False


def figures_of(case: CaseScores) -> Figures:
    return {**figures(case), **beside_figures(case)}


def paired_difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """Of (N,) values of the same N >= 2 cases: first minus second, by the Wilcoxon signed-rank test, two-sided."""
    # Half a second to import, which most commands need not wait for.
    from scipy import stats

    differences = np.asarray(first, float) - np.asarray(second, float)
    # Sums come out a last bit apart in different orders; such differences are none.
    differences[np.abs(differences) < 1e-12] = 0
    low, high = mean_intervals(differences[:, None])[0].tolist()
    p_value = float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0
    return Difference(float(differences.mean()), (low, high), p_value)


def compare(scores: Mapping[str, Figures], others: Mapping[str, Figures], against: str) -> Comparison:
    """Raises `KitsamError` when fewer than two cases are in both."""
    both = shared_cases(scores, others, against)
    rows = []
    for figure in LABELS:
        sides = [[side[name].get(figure) for name in both] for side in (scores, others)]
        pairs = np.array([pair for pair in zip(*sides) if None not in pair])
        if len(pairs) > 1:
            rows.append(_row(figure, *pairs.T))
    return Comparison(against, both, sorted(scores.keys() - others.keys()), sorted(others.keys() - scores.keys()), rows)


def shared_cases(scores: Iterable[str], others: Iterable[str], against: str) -> list[str]:
    """Raises `KitsamError` when there are fewer than two."""
    both = sorted({*scores} & {*others})
    if len(both) < 2:
        raise KitsamError(f"--against: {against} has {len(both)} of the scored cases; a comparison needs two at least")
    return both


def _row(figure: str, first: np.ndarray, second: np.ndarray) -> Row:
    mean, interval, p_value = paired_difference(first, second)
    better, worse = int((first > second + 1e-12).sum()), int((first < second - 1e-12).sum())
    return Row(figure, fmean(first), fmean(second), mean, interval, p_value, better, worse, len(first))


def read_others(folder: Path, score_label_maps: Callable[[Path], Mapping[str, Figures]]) -> Others:
    """What `--against` names: kitsam's `metrics.json`, else the official `metrics.csv`, else label maps to be scored.

    Raises `OptionError` when the folder is missing, `KitsamError` when what it holds cannot be used.
    """
    if not folder.is_dir():
        raise OptionError(f"--against: no such folder: {folder}")
    if (folder / JSON_NAME).is_file():
        metrics = read_metrics(folder)
        scores = {name: figures_of(case) for name, case in metrics.scores.items()}
        return Others(scores, bool(metrics.settings.get("zero_shot")))
    if (folder / CSV_NAME).is_file():
        cases = read_csv(folder / CSV_NAME)
        return Others({name: {**summary_of(columns), **columns} for name, columns in cases.items()})
    return Others(score_label_maps(folder))


def compare_and_tell(out: Path, scores: Mapping[str, CaseScores], others: Others | None, against: Path | None) -> None:
    """Write and print the comparison, if there are others to compare with."""
    # One of an earlier run would be taken for this one's.
    (out / FILE_NAME).unlink(missing_ok=True)
    if others is None:
        return
    comparison = compare({name: figures_of(case) for name, case in scores.items()}, others.figures, str(against))
    comparison = replace(comparison, zero_shot=others.zero_shot)
    write_comparison(out, comparison)
    for names, where in ((comparison.only_here, "not there"), (comparison.only_there, "only there")):
        if names:
            warn(f"compared without {', '.join(names)}: {where}, in {comparison.against}")
    say(comparison_table(comparison))
    say(f"Wrote {out / FILE_NAME}")


def write_comparison(out: Path, comparison: Comparison) -> None:
    write_json(out / FILE_NAME, asdict(comparison))


def read_comparison(folder: Path) -> Comparison | None:
    """What `write_comparison` wrote there; None where there is none. Raises `KitsamError` naming a damaged file."""
    path = folder / FILE_NAME
    return read_record(path, Comparison) if path.is_file() else None


def comparison_table(comparison: Comparison) -> Table:
    there = f"{'zero-shot, ' if comparison.zero_shot else ''}{comparison.against}"
    table = Table(
        title=f"Against {there}, cases: {len(comparison.cases)}",
        caption=FIGURE_NOTE,
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("")
    for name in ("here", "there", "difference", "95 %", "p", "better", "worse"):
        table.add_column(name, justify="right")
    for row in comparison.rows:
        numbers = (f"{row.mean:.3f}", f"{row.against:.3f}", f"{row.difference:+.3f}", row.interval_text)
        table.add_row(comparison.label(row), *numbers, f"{row.p_value:.2g}", str(row.better), str(row.worse))
    return table
