"""The report's charts, from plain numbers."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from kitsam.pictures.charts import COLORS, TUMOR, dot, new_figure, to_svg
from kitsam.pictures.plots import (
    dice_by_case,
    dice_by_tumor_volume,
    free_response,
    limits_of_agreement,
    reliability_diagram,
    volume_differences,
)


def test_each_group_of_classes_has_a_line_from_its_worst_case_to_its_best():
    (axes,) = dice_by_case([0.9, 0.7], [0.2, 0.6], [0.5, 0.4]).axes
    lines = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert lines == {"kidney and masses": [0.7, 0.9], "masses": [0.2, 0.6], "tumor": [0.4, 0.5]}


def test_lines_differ_in_dashes_and_marks_for_those_who_see_no_colors():
    lines = dice_by_case([0.9, 0.7], [0.2, 0.6], [0.5, 0.4]).axes[0].lines
    assert len({line.get_marker() for line in lines}) == len({str(line._dash_pattern) for line in lines}) == 3


def test_a_case_without_a_tumor_stands_at_the_end_of_the_volume_axis():
    (axes,) = dice_by_tumor_volume(["a", "b"], [0.0, 250.0], [1.0, 0.5]).axes
    points = [line.get_xydata()[0].tolist() for line in axes.lines]
    least, most = axes.get_xlim()
    assert points == [[least, 1.0], [250.0, 0.5]] and most >= 250


def test_bland_and_altmans_limits_are_1_96_standard_deviations_about_the_mean_difference():
    middle, limits = limits_of_agreement([1.0, 3.0, 5.0])
    assert middle == 3 and limits == pytest.approx((3 - 1.96 * 2, 3 + 1.96 * 2))
    assert limits_of_agreement([4.0]) == (4.0, None)


def test_volumes_are_drawn_by_their_mean_and_difference():
    (axes,) = volume_differences(["a", "b"], [10.0, 100.0], [20.0, 90.0], "tumor", TUMOR).axes
    dots, lines = axes.lines[:2], axes.lines[2:]
    assert [line.get_xydata()[0].tolist() for line in dots] == [[15.0, 10.0], [95.0, -10.0]]
    reach = 1.96 * np.std([10, -10], ddof=1)
    assert [line.get_ydata()[0] for line in lines] == pytest.approx([0, -reach, reach])
    low, high = axes.get_ylim()
    assert low < -reach and high > reach


def test_a_free_response_curve_begins_at_nothing_and_ends_with_a_mark():
    (axes,) = free_response({"tumor": [(0.0, 0.5), (2.0, 0.75)]}).axes
    line, end = axes.lines
    assert line.get_xydata().tolist() == [[0, 0], [0, 0.5], [2, 0.75]] and line.get_label() == "tumors"
    assert end.get_xydata().tolist() == [[2, 0.75]]


def test_a_reliability_diagram_names_what_each_decoder_looks_for():
    (axes,) = reliability_diagram({"roi": [(0.1, 0.2)], "cyst": [(0.5, 0.4), (0.9, 0.6)]}).axes
    assert [line.get_label() for line in axes.lines[1:]] == ["kidney and masses", "cyst"]


@pytest.fixture
def svg() -> str:
    figure, (axes,) = new_figure(1)
    dot(axes, 1.0, 2.0, TUMOR, 'case <1> & "2"')
    axes.set(xlabel="a label")
    return to_svg(figure, "What it shows & says")


def test_an_svg_says_what_it_shows_and_has_the_colors_of_the_page(svg):
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img" and root.get("aria-label") == "What it shows & says"
    assert root.get("width") == "100%" and root.get("viewBox")
    assert "var(--tumor)" in svg and not any(color in svg for color in COLORS.values())


def test_a_mark_has_its_title_and_text_is_text(svg):
    root = ElementTree.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    assert [title.text for title in root.iter(f"{space}title")] == ['case <1> & "2"']
    assert "a label" in [text.text for text in root.iter(f"{space}text")]


def test_the_same_figure_gives_the_same_bytes_and_two_of_a_page_share_no_id():
    def draw(alt: str) -> str:
        figure, (axes,) = new_figure(1)
        dot(axes, 1.0, 2.0, TUMOR, "a")
        return to_svg(figure, alt)

    assert draw("one") == draw("one")
    ids = [set(re.findall(r'\bid="([^"]+)"', draw(alt))) for alt in ("one", "other")]
    assert ids[0] and not ids[0] & ids[1]
