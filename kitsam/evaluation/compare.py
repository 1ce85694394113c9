"""`kitsam score A --against B`: the same cases, scored twice.

Case by case the difference of each figure, its mean with a bootstrap interval, and the Wilcoxon signed-rank test: how
likely ranks of differences as one-sided as these are, were the two alike. Pairing takes out what makes cases hard for
both, so that a small but steady gain shows with a dozen cases. Cases that only one of the two has are left out and
named. The figures hang together (Dice is the mean of three others), so their p-values are no independent findings:
decide on one figure beforehand, such as Dice.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
from rich.table import Table

from kitsam.evaluation.bootstrap import mean_intervals
from kitsam.evaluation.metrics import summary_of
from kitsam.evaluation.results import CSV_NAME, JSON_NAME, read_csv, read_metrics
from kitsam.evaluation.summary import RESULT_LABELS
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import write_json
from kitsam.system.records import read_record

FILE_NAME = "comparison.json"
FIGURE_NOTE = "Difference: mean over cases, with its 95 % bootstrap interval. p: Wilcoxon signed-rank test, two-sided"
Figures = Mapping[str, float]  # of a case, by the names in RESULT_LABELS


class Difference(NamedTuple):
    mean: float
    interval: tuple[float, float]  # of the mean, 95 %
    p_value: float


@dataclass(frozen=True)
class Row:
    figure: str  # of RESULT_LABELS
    mean: float
    against: float
    difference: float
    interval_95: tuple[float, float]
    p_value: float
    better: int  # cases
    worse: int  # cases

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
    both = sorted(scores.keys() & others.keys())
    if len(both) < 2:
        raise KitsamError(f"--against: {against} has {len(both)} of the scored cases; a comparison needs two at least")
    rows = []
    for figure in RESULT_LABELS:
        first, second = (np.array([side[name][figure] for name in both]) for side in (scores, others))
        mean, interval, p_value = paired_difference(first, second)
        better, worse = int((first > second + 1e-12).sum()), int((first < second - 1e-12).sum())
        rows.append(Row(figure, fmean(first), fmean(second), mean, interval, p_value, better, worse))
    return Comparison(against, both, sorted(scores.keys() - others.keys()), sorted(others.keys() - scores.keys()), rows)


def read_others(folder: Path, score_label_maps: Callable[[Path], Mapping[str, Figures]]) -> Mapping[str, Figures]:
    """What `--against` names: kitsam's `metrics.json`, else the official `metrics.csv`, else label maps to be scored.

    Raises `OptionError` when the folder is missing, `KitsamError` when what it holds cannot be used.
    """
    if not folder.is_dir():
        raise OptionError(f"--against: no such folder: {folder}")
    if (folder / JSON_NAME).is_file():
        return {name: {**case.summary, **case.columns} for name, case in read_metrics(folder).scores.items()}
    if (folder / CSV_NAME).is_file():
        return {name: {**summary_of(columns), **columns} for name, columns in read_csv(folder / CSV_NAME).items()}
    return score_label_maps(folder)


def write_comparison(out: Path, comparison: Comparison) -> None:
    write_json(out / FILE_NAME, asdict(comparison))


def read_comparison(folder: Path) -> Comparison | None:
    """What `write_comparison` wrote there; None where there is none. Raises `KitsamError` naming a damaged file."""
    path = folder / FILE_NAME
    return read_record(path, Comparison) if path.is_file() else None


def comparison_table(comparison: Comparison) -> Table:
    table = Table(
        title=f"Against {comparison.against}, cases: {len(comparison.cases)}",
        caption=FIGURE_NOTE,
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("")
    for name in ("here", "there", "difference", "95 %", "p", "better", "worse"):
        table.add_column(name, justify="right")
    for row in comparison.rows:
        numbers = (f"{row.mean:.3f}", f"{row.against:.3f}", f"{row.difference:+.3f}", row.interval_text)
        table.add_row(RESULT_LABELS[row.figure], *numbers, f"{row.p_value:.2g}", str(row.better), str(row.worse))
    return table
