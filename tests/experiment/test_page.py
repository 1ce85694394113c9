"""The page of an experiment, from a table."""

import re

import pytest

from kitsam.evaluation.summary import RESULT_LABELS
from kitsam.experiment.page import PAGE, write_page
from kitsam.experiment.table import Cell, Row, Table


def row(variant: str, difference: float | None) -> Row:
    to_base = (None, None, None) if difference is None else (difference, (difference - 0.05, difference + 0.05), 0.04)
    cell = Cell(0.5 + (difference or 0), (0.4, 0.6), 0.01, *to_base)
    minutes = {"embed": 1.0, "train": 2.0, "evaluate": 0.5}
    return Row(variant, 2, 2, 20, minutes, [], dict.fromkeys(RESULT_LABELS, cell))


@pytest.fixture
def html(tmp_path) -> str:
    rows = [row("base", None), row("<wide>", 0.15)]
    commands = {one.variant: ["kitsam train --config x.yaml"] for one in rows}
    write_page(tmp_path, Table("0.1", "/data", 5, [0, 1], "base", "tumor_Dice", rows, commands))
    return (tmp_path / PAGE).read_text(encoding="utf-8")


def test_differences_are_drawn_about_no_difference_to_the_largest_reach(html):
    (bar,) = re.findall(r'<line class="interval" x1="([\d.]+)" x2="([\d.]+)"', html)
    # From 0.10 to 0.20 on an axis from -0.20 to 0.20.
    assert [float(end) for end in bar] == pytest.approx([75, 100])
    assert "From -0.200 to +0.200" in html and "+0.150" in html


def test_the_page_has_the_reports_look_and_caution(html):
    assert "For research only." in html and "screen and (prefers-color-scheme: dark)" in html
    assert html.index("<h2>tumor Dice</h2>") < html.index("<h2>Dice</h2>")  # the one that decides first


def test_names_are_escaped(html):
    assert "<wide>" not in html and "&lt;wide&gt;" in html
