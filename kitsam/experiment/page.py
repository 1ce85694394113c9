"""An experiment as one HTML page, with the report's look: its tables, the differences drawn, and what was run."""

from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from kitsam.evaluation.summary import RESULT_LABELS
from kitsam.experiment.table import COLUMNS, NOTE, Table, headline, row_cells
from kitsam.system.files import write_text

PAGE = "index.html"
LEAST_REACH = 0.01  # of the picture's axis, in Dice, so that no differences at all look like none


class Bar(NamedTuple):
    """A variant's difference to the base, in percent of the picture's width."""

    variant: str
    low: float
    middle: float
    high: float
    text: str


def write_page(out: Path, table: Table) -> None:
    templates = Environment(loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined)
    templates.trim_blocks = templates.lstrip_blocks = True
    reach = _reach(table)
    values = {
        "table": table,
        "headline": headline(table),
        "labels": {table.figure: RESULT_LABELS[table.figure], **RESULT_LABELS},  # the one that decides first
        "columns": COLUMNS,
        "note": NOTE,
        "cells": lambda row, figure: row_cells(table, row, figure),
        "bars": _bars(table, reach),
        "reach": reach,
        "style": files("kitsam.report").joinpath("report.css").read_text("utf-8"),
    }
    write_text(out / PAGE, templates.get_template("experiment.html").render(values))


def _reach(table: Table) -> float:
    """The largest end of an interval of the figure that decides."""
    cells = [row.cells[table.figure] for row in table.rows if row.cells]
    ends = [abs(end) for cell in cells for end in cell.difference_95 or ()]
    return max([LEAST_REACH, *ends])


def _bars(table: Table, reach: float) -> list[Bar]:
    bars = []
    for row in table.rows:
        cell = row.cells.get(table.figure)
        if cell and cell.difference_95:
            places = (
                50 + 50 * value / reach for value in (cell.difference_95[0], cell.difference, cell.difference_95[1])
            )
            bars.append(Bar(row.variant, *places, f"{cell.difference:+.3f}"))
    return bars
