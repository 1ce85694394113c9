"""Several evaluations on one page: paired where the cases are the same."""

from dataclasses import replace

import pytest
from resources import Resources, text_of

from kitsam.evaluation.compare import paired_difference
from kitsam.evaluation.results import write_metrics
from kitsam.report import page
from kitsam.report.config import ReportConfig
from kitsam.report.several import draw_bars, labels_of


@pytest.fixture
def folders(evaluation, tmp_path):
    """A, the same with better tumors, and one whose cases have other labels under the same names."""
    better = {
        name: replace(case, tumor_dice=min(case.tumor_dice + 0.1 * number, 1))
        for number, (name, case) in enumerate(evaluation.scores.items(), 1)
    }
    others = {name: replace(case, true_tumor_ml=case.true_tumor_ml * 2) for name, case in evaluation.scores.items()}
    for name, scores in (("a", evaluation.scores), ("b", better), ("c", others)):
        write_metrics(tmp_path / name, scores, evaluation.settings, {})
    return [tmp_path / name for name in "abc"]


def report_on(folders) -> str:
    assert page.run(ReportConfig(folders)) == 0
    return (folders[0] / "comparison.html").read_text(encoding="utf-8")


def test_each_figure_has_means_intervals_and_the_paired_test(folders, evaluation):
    text = text_of(report_on(folders[:2]))
    here = [min(case.tumor_dice + 0.1 * number, 1) for number, case in enumerate(evaluation.scores.values(), 1)]
    there = [case.tumor_dice for case in evaluation.scores.values()]
    difference = paired_difference(here, there)
    assert f"{difference.mean:+.3f} {difference.interval[0]:+.3f} to {difference.interval[1]:+.3f}" in text
    assert f"{difference.p_value:.2g}" in text and "Wilcoxon signed-rank test" in text
    assert "For research only" in text and "not corrected for how many are compared" in text
    assert all(f"{sum(values) / 4:.3f}" in text for values in (here, there))


def test_cases_with_other_labels_under_the_same_names_are_not_paired(folders):
    text = text_of(report_on(folders))
    assert "Not compared with a: case_00000 has other true labels than in" in text
    assert "Not compared with a" not in text_of(report_on(folders[:2]))


def test_fewer_than_two_common_cases_are_no_comparison(folders, evaluation):
    name = next(iter(evaluation.scores))
    write_metrics(folders[1], {name: evaluation.scores[name]}, evaluation.settings, {})
    assert "a comparison needs two at least" in text_of(report_on(folders[:2]))


def test_cases_that_only_one_has_are_named(folders, evaluation):
    scores = dict(list(evaluation.scores.items())[:3])
    write_metrics(folders[1], scores, evaluation.settings, {})
    assert "3 cases; not in the first: none; only in the first: case_00003" in text_of(report_on(folders[:2]))


def test_the_paper_stands_beside_cases_of_kits23_alone(folders, evaluation):
    assert "0.432" not in report_on(folders[:2])
    for folder in folders[:2]:
        write_metrics(folder, evaluation.scores, {**evaluation.settings, "origins": {"kits23": 4}}, {})
    assert "paper 0.432" in report_on(folders[:2])


def test_the_page_links_to_the_reports_that_there_are(folders):
    assert page.run(ReportConfig(folders[1:2])) == 0
    assert [link for link in Resources(report_on(folders[:2])).links if link.endswith(".html")] == ["../b/report.html"]


def test_evaluations_are_told_apart_by_what_differs_in_their_paths(tmp_path):
    assert labels_of([tmp_path / "one" / "results", tmp_path / "two" / "results"]) == ["one", "two"]
    assert labels_of([tmp_path / "one", tmp_path / "deep" / "two"]) == ["one", "deep/two"]


def test_bars_lie_about_the_middle_of_the_largest_reach():
    reach, (bar,) = draw_bars([("b", 0.1, (-0.1, 0.2))])
    assert reach == 0.2 and bar[1:4] == pytest.approx((25, 75, 100)) and bar.text == "+0.100"
