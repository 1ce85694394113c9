"""Pages that tell what a program knows say the same as the program."""

import re

import hours
import metric_pictures
import numpy as np
import options_page
import yaml
from pages import ROOT

from kitsam import __version__
from kitsam.evaluation.metrics import TOLERANCES_MM, score_case

DOCS = ROOT / "docs"


def test_the_page_of_options_is_current():
    assert options_page.PAGE.read_text(encoding="utf-8") == options_page.page(), "python docs/make/options_page.py"


def test_the_hours_are_those_of_the_benchmark():
    page = (DOCS / "reproduction.md").read_text(encoding="utf-8")
    assert all(row in page for row in hours.rows()), "python docs/make/hours.py"


def test_the_numbers_about_metrics_are_the_evaluators(tmp_path):
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    for name, one in metric_pictures.scores().items():
        assert f"| {name} | {one.tumor_dice:.2f} | {one.tumor_surface_dice:.2f} |" in page, name
    lesions = score_case(*metric_pictures.lesion_maps(), metric_pictures.SPACING).tumors
    assert [len(part) for part in (lesions.found, lesions.missed, lesions.false)] == [2, 1, 1]
    for tolerance in TOLERANCES_MM.values():
        assert f"{tolerance:.2f} mm" in page


def test_the_pictures_about_metrics_are_drawn_and_described(tmp_path):
    metric_pictures.draw_all(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == described_in("metrics.md")
    assert names | described_in("results.md") == {path.name for path in metric_pictures.FOLDER.iterdir()}


def described_in(page: str) -> set[str]:
    """Pictures of a page that it says in words too."""
    found = re.findall(r"!\[([^\]]{20,})\]\(pictures/(\w+\.svg)\)", (DOCS / page).read_text("utf-8"))
    return {name for _, name in found}


def test_the_shown_lesion_that_is_hardly_overlapped_is_found():
    truth, prediction = metric_pictures.lesion_maps()
    assert 0 < np.count_nonzero((truth > 0) & (prediction > 0)) < np.count_nonzero(truth) / 2


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## \[(.*?)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert citation["version"] == newest[1] == __version__
    assert str(citation["date-released"]) == newest[2]
    assert f"version = {__version__}\n" in (ROOT / "setup.cfg").read_text()
    assert f"{{{__version__}}}" in (DOCS / "cite.md").read_text()
