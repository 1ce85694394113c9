"""The paired comparison: what it finds, what it does not, and what it takes."""

import json
import shutil

import numpy as np
import pytest
from scipy import stats

from kitsam.evaluation import score
from kitsam.evaluation.compare import compare, paired_difference
from kitsam.evaluation.config import ScoreConfig
from kitsam.evaluation.summary import RESULT_LABELS
from kitsam.system.errors import KitsamError, OptionError

SEEDS, CASES = 100, 30


def dice_of_cases(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two systems that find the same cases hard, and are alike but for chance."""
    rng = np.random.default_rng(seed)
    hardness = rng.beta(5, 2, CASES)
    return tuple(np.clip(hardness + rng.normal(0, 0.05, CASES), 0, 1) for _ in range(2))


def test_a_known_difference_is_found_with_its_size():
    for seed in range(SEEDS):
        first, second = dice_of_cases(seed)
        found = paired_difference(first + 0.06, second)
        assert found.p_value < 0.05 and found.interval[0] > 0
        assert found.mean == pytest.approx(0.06, abs=0.05)
        assert paired_difference(second, first + 0.06).mean == -found.mean


def test_where_there_is_none_none_is_found_more_often_than_by_chance():
    found = [paired_difference(*dice_of_cases(seed)) for seed in range(SEEDS)]
    by_test = sum(difference.p_value < 0.05 for difference in found)
    by_interval = sum(difference.interval[0] > 0 or difference.interval[1] < 0 for difference in found)
    # One in twenty by chance; the interval, of 30 cases, is somewhat too narrow.
    assert by_test <= stats.binom.ppf(0.9999, SEEDS, 0.05)
    assert by_interval <= stats.binom.ppf(0.9999, SEEDS, 0.08)
    # What never cries wolf sees none either: the test must use its error.
    assert by_test >= stats.binom.ppf(1e-3, SEEDS, 0.05)


def test_equal_scores_are_no_difference_and_ties_do_no_harm():
    values = np.random.default_rng(0).random(8)
    assert paired_difference(values, values) == (0.0, (0.0, 0.0), 1.0)
    assert paired_difference(values + 1e-15, values).p_value == 1.0
    other = values.copy()
    other[:3] -= 0.1
    assert 0 < paired_difference(values, other).p_value < 1


def test_cases_that_one_side_lacks_are_left_out_and_named():
    figures = dict.fromkeys(RESULT_LABELS, 0.5)
    found = compare({"a": figures, "b": figures, "c": figures}, {"b": figures, "c": figures, "d": figures}, "there")
    assert (found.cases, found.only_here, found.only_there) == (["b", "c"], ["a"], ["d"])
    with pytest.raises(KitsamError, match="--against: there has 1 of the scored cases"):
        compare({"a": figures, "b": figures}, {"b": figures}, "there")


def test_a_figure_that_some_cases_lack_is_compared_over_the_others():
    figures = dict.fromkeys(RESULT_LABELS, 0.5)
    with_cyst = {**figures, "ROI_recall_cyst": 0.75}
    ours = {"a": with_cyst, "b": with_cyst, "c": figures}
    theirs = {"a": {**figures, "ROI_recall_cyst": 0.5}, "b": {**figures, "ROI_recall_cyst": 0.25}, "c": with_cyst}
    found = compare(ours, theirs, "there")
    (row,) = [row for row in found.rows if row.figure == "ROI_recall_cyst"]
    assert (row.mean, row.against, row.cases) == (0.75, 0.375, 2)
    assert found.label(row) == "ROI recall of cysts (2 cases)" and found.label(found.rows[0]) == "Dice"


@pytest.fixture
def data(tmp_path, anatomy, save):
    for number in range(6):
        save(tmp_path / "data" / f"case_{number:05d}" / "segmentation.nii.gz", anatomy)
    return tmp_path / "data"


@pytest.fixture
def good_and_bad(tmp_path, data, variants, save):
    """Folders of label maps of which one is better in every case."""
    for number in range(6):
        save(tmp_path / "good" / f"case_{number:05d}.nii.gz", variants["same" if number % 2 else "grown"])
        save(tmp_path / "bad" / f"case_{number:05d}.nii.gz", np.roll(variants["shifted"], number % 3, 1))
    return tmp_path / "good", tmp_path / "bad"


def test_label_maps_an_evaluation_and_the_official_csv_compare_alike(good_and_bad, data, tmp_path, capsys):
    good, bad = good_and_bad
    assert score.run(ScoreConfig(bad, data, tmp_path / "scored")) == 0
    (tmp_path / "official").mkdir()
    shutil.copy(tmp_path / "scored" / "metrics.csv", tmp_path / "official")
    rows, official = [], 8
    for against in (bad, tmp_path / "scored", tmp_path / "official"):
        assert score.run(ScoreConfig(good, data, tmp_path / "out", against=against)) == 0
        rows.append(json.loads((tmp_path / "out" / "comparison.json").read_text())["rows"])
    assert rows[0] == rows[1] and rows[0][:official] == rows[2]
    assert [row["figure"] for row in rows[0][official:]] == ["cyst_Dice", "cyst_Dice_where_present"]
    first = rows[0][0]
    assert first["figure"] == "Dice" and first["difference"] > 0 and (first["better"], first["worse"]) == (6, 0)
    # Six signs of six: twice one in 2**6.
    assert first["p_value"] == pytest.approx(2 / 2**6)
    assert f"Against {tmp_path / 'official'}"[:30] in capsys.readouterr().out


def test_without_against_no_older_comparison_is_left(good_and_bad, data, tmp_path):
    good, bad = good_and_bad
    score.run(ScoreConfig(good, data, tmp_path / "out", against=bad))
    score.run(ScoreConfig(good, data, tmp_path / "out"))
    assert not (tmp_path / "out" / "comparison.json").exists()


def test_an_evaluation_is_scored_by_its_label_maps(good_and_bad, data, tmp_path):
    shutil.copytree(good_and_bad[0], tmp_path / "evaluation" / "predictions")
    (tmp_path / "evaluation" / "metrics.json").write_text("{}")
    assert score.run(ScoreConfig(tmp_path / "evaluation", data, tmp_path / "out")) == 0


def test_what_cannot_be_compared_with_is_named(good_and_bad, data, tmp_path):
    for name, content, message in (
        ("nowhere", None, "--against: no such folder"),
        ("empty", "", "--against: no label map"),
        ("odd", "caseID,Dice\na,b\n", "metrics.csv: not the official evaluator's CSV"),
    ):
        if content is not None:
            (tmp_path / name).mkdir()
            (tmp_path / name / ("metrics.csv" if content else "notes.txt")).write_text(content)
        with pytest.raises((OptionError, KitsamError), match=message):
            score.run(ScoreConfig(good_and_bad[0], data, tmp_path / "out", against=tmp_path / name))
    assert not (tmp_path / "out").exists()
