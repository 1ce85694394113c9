"""An experiment as one HTML page, with the report's look: its tables, the differences drawn, and what was run."""

from pathlib import Path

from kitsam.evaluation.summary import RESULT_LABELS
from kitsam.experiment.table import COLUMNS, NOTE, Table, headline, row_cells
from kitsam.report.rendering import page_templates
from kitsam.report.several import draw_bars
from kitsam.system.files import write_text

PAGE = "index.html"


def write_page(out: Path, table: Table) -> None:
    cells = {row.variant: cell for row in table.rows if (cell := row.cells.get(table.figure))}
    reach, bars = draw_bars(
        [(name, cell.difference, cell.difference_95) for name, cell in cells.items() if cell.difference_95]
    )
    values = {
        "table": table,
        "headline": headline(table),
        "labels": {table.figure: RESULT_LABELS[table.figure], **RESULT_LABELS},  # the one that decides first
        "columns": COLUMNS,
        "note": NOTE,
        "cells": lambda row, figure: row_cells(table, row, figure),
        "bars": bars,
        "reach": reach,
    }
    write_text(out / PAGE, page_templates(__package__).get_template("experiment.html").render(values))
