"""What an experiment shows: each variant's figures, and how it differs from the base, case by case.

A case's figure is its mean over the seeds, so that each case counts once; the interval says how far the mean would move
with other cases, the spread of the seeds how far with other seeds. Only results that are there in all folds and seeds
are compared: a variant of which some are missing says how many.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np
from rich.table import Table as RichTable

from kitsam import __version__
from kitsam.evaluation.bootstrap import mean_intervals
from kitsam.evaluation.compare import paired_difference
from kitsam.evaluation.results import read_metrics
from kitsam.evaluation.summary import RESULT_LABELS, figures
from kitsam.experiment.jobs import Book, Plan, Result
from kitsam.experiment.recipe import Recipe
from kitsam.system.files import write_json, write_text

JSON, MARKDOWN = "table.json", "table.md"
NOTE = (
    "Mean over cases, each case's figure being its mean over the seeds, with the 95 % bootstrap interval over cases; "
    "difference to the base, paired by case, with its interval; p: Wilcoxon signed-rank test, two-sided."
)


@dataclass(frozen=True)
class Cell:
    """One figure of one variant."""

    mean: float
    interval_95: tuple[float, float] | None  # None: of one case
    seeds: float  # standard deviation of the seeds' means
    difference: float | None = None  # to the base, on the cases that both have
    difference_95: tuple[float, float] | None = None
    p_value: float | None = None


@dataclass(frozen=True)
class Row:
    """One variant."""

    variant: str
    results: int  # evaluations that are there
    wanted: int
    cases: int
    minutes: dict[str, float]  # of embed, train and evaluate, shared ones counted in each variant
    left_out: list[str]  # evaluations and shard sets that have left cases out
    cells: dict[str, Cell]  # by the names in RESULT_LABELS; empty where results are missing


@dataclass(frozen=True)
class Table:
    kitsam: str  # version
    data: str
    folds: int | None
    seeds: list[int]
    base: str
    figure: str
    rows: list[Row]
    commands: dict[str, list[str]]  # of each variant, of its first fold and seed


def make_table(recipe: Recipe, plan: Plan, book: Book, data: str) -> Table:
    scores = {variant: _scores(results, plan, book) for variant, results in plan.results.items()}
    complete = {variant for variant, results in plan.results.items() if len(scores[variant]) == len(results)}
    base = _by_case(scores[recipe.base]) if recipe.base in complete else None
    rows = []
    for variant, results in plan.results.items():
        there = scores[variant]
        cells = _cells(there, None if variant == recipe.base else base) if variant in complete else {}
        names = _jobs_of(results, plan)
        rows.append(
            Row(
                variant,
                len(there),
                len(results),
                len(_by_case(there)),
                _minutes(names, plan, book),
                sorted(name for name in names if book.record(name).left_out),
                cells,
            )
        )
    commands = {variant: _commands(results[0], plan, book) for variant, results in plan.results.items()}
    return Table(__version__, data, recipe.folds, list(recipe.seeds), recipe.base, recipe.figure, rows, commands)


CaseFigures = Mapping[str, Mapping[str, float]]  # case -> figure -> value


def _scores(results: list[Result], plan: Plan, book: Book) -> dict[Result, CaseFigures]:
    """Of the evaluations that are done."""
    return {
        one: {name: figures(case) for name, case in read_metrics(plan.jobs[one.job].folder).scores.items()}
        for one in results
        if book.record(one.job).done
    }


def _by_case(scores: Mapping[Result, CaseFigures]) -> dict[str, dict[str, float]]:
    """Each case's figures, means over the seeds."""
    values: dict[str, list[Mapping[str, float]]] = {}
    for cases in scores.values():
        for name, one in cases.items():
            values.setdefault(name, []).append(one)
    return {
        name: {figure: fmean(one[figure] for one in several) for figure in RESULT_LABELS}
        for name, several in sorted(values.items())
    }


def _cells(scores: Mapping[Result, CaseFigures], base: Mapping[str, Mapping[str, float]] | None) -> dict[str, Cell]:
    cases = _by_case(scores)
    both = sorted(cases.keys() & base.keys()) if base else []
    cells = {}
    for figure in RESULT_LABELS:
        values = np.array([case[figure] for case in cases.values()])
        low, high = mean_intervals(values[:, None])[0].tolist()
        interval = None if np.isnan(low) else (low, high)
        cell = Cell(float(values.mean()), interval, pstdev(_seed_means(scores, figure)))
        if len(both) > 1:
            here, there = (np.array([side[name][figure] for name in both]) for side in (cases, base))
            difference = paired_difference(here, there)
            cell = Cell(cell.mean, cell.interval_95, cell.seeds, *difference)
        cells[figure] = cell
    return cells


def _seed_means(scores: Mapping[Result, CaseFigures], figure: str) -> list[float]:
    """The mean over all folds' cases, of each seed."""
    values: dict[int, list[float]] = {}
    for result, cases in scores.items():
        values.setdefault(result.seed, []).extend(case[figure] for case in cases.values())
    return [fmean(of_seed) for of_seed in values.values()]


def _jobs_of(results: list[Result], plan: Plan) -> list[str]:
    names = {name for one in results for name in (one.job, *plan.jobs[one.job].needs)}
    return sorted(names)


def _minutes(names: list[str], plan: Plan, book: Book) -> dict[str, float]:
    minutes = dict.fromkeys(("embed", "train", "evaluate"), 0.0)
    for name in names:
        minutes[plan.jobs[name].part] += book.record(name).seconds / 60
    return minutes


def _commands(result: Result, plan: Plan, book: Book) -> list[str]:
    jobs = [plan.jobs[name] for name in (*plan.jobs[result.job].needs, result.job)]
    return [f"kitsam {job.part} --config {book.folder / f'{job.name}.yaml'}" for job in jobs]


def write_table(out: Path, table: Table) -> None:
    write_json(out / JSON, asdict(table))
    write_text(out / MARKDOWN, markdown(table))


def headline(table: Table) -> str:
    """On what the figures stand."""
    folds = "one split" if table.folds is None else f"{table.folds} folds"
    cases = max((row.cases for row in table.rows), default=0)
    return f"{cases} cases of {table.data}, {folds}, seeds {', '.join(map(str, table.seeds))}; base: {table.base}"


COLUMNS = ("mean", "95 %", "seeds ±", "difference", "95 %", "p", "minutes")


def row_cells(table: Table, row: Row, figure: str) -> list[str]:
    """The texts under COLUMNS."""
    minutes = f"{row.minutes['train'] + row.minutes['evaluate']:.1f}"
    if figure not in row.cells:
        return [f"{row.results} of {row.wanted} results", "", "", "", "", "", minutes]
    cell = row.cells[figure]
    difference = ("", "", "")
    if cell.difference is not None:
        difference = (f"{cell.difference:+.3f}", _interval(cell.difference_95, "+.3f"), f"{cell.p_value:.2g}")
    return [f"{cell.mean:.3f}", _interval(cell.interval_95, ".3f"), f"{cell.seeds:.3f}", *difference, minutes]


def _interval(interval: tuple[float, float] | None, form: str) -> str:
    return "" if interval is None else f"{interval[0]:{form}} to {interval[1]:{form}}"


def results_table(table: Table) -> RichTable:
    """The figure that decides, for the terminal."""
    rich = RichTable(
        title=f"{RESULT_LABELS[table.figure]}, {headline(table)}",
        caption=f"{NOTE} minutes: training and evaluation",
        title_justify="left",
        caption_justify="left",
    )
    rich.add_column("variant")
    for column in COLUMNS:
        rich.add_column(column, justify="right")
    for row in table.rows:
        rich.add_row(row.variant, *row_cells(table, row, table.figure))
    return rich


def markdown(table: Table) -> str:
    """All figures, the one that decides first."""
    lines = [f"{headline(table)}; kitsam {table.kitsam}. {NOTE}", ""]
    for figure in (table.figure, *(name for name in RESULT_LABELS if name != table.figure)):
        lines += [f"**{RESULT_LABELS[figure]}**", "", f"| variant | {' | '.join(COLUMNS)} |"]
        lines += ["|---" * (len(COLUMNS) + 1) + "|"]
        lines += [f"| {row.variant} | {' | '.join(row_cells(table, row, figure))} |" for row in table.rows]
        lines += [""]
    return "\n".join(lines)
