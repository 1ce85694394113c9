"""Data without tumors: the official numbers stand, and are marked."""

import json
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from kitsam.evaluation.metrics import CaseScores, score_case
from kitsam.evaluation.results import _write_csv, read_metrics, write_metrics
from kitsam.evaluation.summary import absent_groups, averages, results_table, summarize

SPACING = (3.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def scores(anatomy, variants) -> dict[str, CaseScores]:
    """Two cases of kidneys and cysts, in one of which a tumor is invented."""
    truth = np.where(anatomy == 2, 1, anatomy).astype(np.uint8)
    return {"right": score_case(truth, truth, SPACING), "false": score_case(truth, anatomy, SPACING)}


def text_of(table) -> str:
    console = Console(width=120, record=True, file=StringIO())
    console.print(table)
    return console.export_text()


def test_figures_of_a_group_that_no_case_has_are_marked_in_the_table(scores):
    assert absent_groups(scores) == ["tumor"]
    text = text_of(results_table(scores))
    marked = {line.split("│")[1].strip() for line in text.splitlines() if "│" in line and " * " in line}
    assert marked == {"Dice *", "surface Dice *", "tumor Dice *", "tumor surface Dice *"}
    assert "no case has tumor, and a case counts 1 where nothing is called so" in text


def test_the_numbers_are_the_official_ones_and_the_file_names_the_group(scores, tmp_path):
    write_metrics(tmp_path, scores, {}, {})
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["absent_groups"] == ["tumor"] and content["summary"] == summarize(scores)
    assert content["average"]["Dice_tumor"] == 0.5  # 1 where nothing is called a tumor, 0 where something is
    assert read_metrics(tmp_path).scores == dict(sorted(scores.items()))


def test_without_any_lesion_masses_are_marked_too(anatomy):
    kidneys = (anatomy > 0).astype(np.uint8)
    assert absent_groups({"a": score_case(kidneys, kidneys, SPACING)}) == ["mass", "tumor"]


def test_where_one_case_has_the_group_nothing_is_marked(scores, anatomy, tmp_path):
    scores = {**scores, "with": score_case(anatomy, anatomy, SPACING)}
    assert not absent_groups(scores) and "*" not in text_of(results_table(scores))
    write_metrics(tmp_path, scores, {}, {})
    assert "absent_groups" not in json.loads((tmp_path / "metrics.json").read_text())


def test_a_name_that_cannot_be_encoded_stands_escaped_in_the_csv(scores, tmp_path):
    _write_csv(tmp_path / "metrics.csv", {"Fall\udcff": scores["right"]}, averages(scores))
    assert "Fall\\udcff" in (tmp_path / "metrics.csv").read_text()
