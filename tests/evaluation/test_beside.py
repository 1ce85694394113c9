"""Cyst Dice, ROI recall and what is pooled of the decoders' answers."""

import json
from dataclasses import replace

import pytest

from kitsam.evaluation.answers import Answers
from kitsam.evaluation.beside import beside_figures, beside_rows, calibration, froc_curves
from kitsam.evaluation.froc import LesionScores
from kitsam.evaluation.metrics import missing_prediction, score_case
from kitsam.evaluation.reliability import Reliability
from kitsam.evaluation.results import read_metrics, write_metrics

SPACING = (3.0, 0.75, 0.8)


def bins(voxels: int, true: int) -> Reliability:
    """All in the highest bin."""
    return Reliability([0] * 15 + [voxels], [0] * 15 + [true], [0] * 15 + [255 * voxels])


@pytest.fixture
def scores(variants):
    """The second case has no cyst; its tumor was asked about in part."""
    first = score_case(variants["same"], variants["shifted"], SPACING)
    second = score_case(variants["no cyst"], variants["same"], SPACING)
    nothing = {"tumor": LesionScores(), "cyst": LesionScores()}
    answers = [
        Answers({"roi": bins(9, 9), "tumor": bins(100, 60), "cyst": bins(50, 0)}, {"tumor": 60, "cyst": 40}, nothing),
        Answers({"roi": bins(9, 9), "tumor": bins(300, 10), "cyst": bins(50, 0)}, {"tumor": 40, "cyst": 0}, nothing),
    ]
    return {"a": replace(first, answers=answers[0]), "b": replace(second, answers=answers[1])}


@pytest.mark.parametrize("truth", ["same", "no cyst", "tumor as cyst", "empty"])
@pytest.mark.parametrize("prediction", ["same", "shifted", "no cyst", "everything tumor", "tumor as cyst"])
def test_cyst_dice_follows_the_official_rule(truth, prediction, variants):
    true, said = variants[truth] == 3, variants[prediction] == 3
    total = true.sum() + said.sum()
    expected = 2 * (true & said).sum() / total if total else 1.0
    assert score_case(variants[truth], variants[prediction], SPACING).cyst_dice == pytest.approx(expected)
    assert missing_prediction(variants[truth], SPACING).cyst_dice == 0


def test_roi_recall_is_the_share_of_voxels_asked_about_and_none_where_there_is_no_lesion(scores):
    assert beside_figures(scores["a"])["ROI_recall_tumor"] == 1 and beside_figures(scores["a"])["ROI_recall_cyst"] == 0
    assert beside_figures(scores["b"])["ROI_recall_tumor"] == 0.25
    assert {"ROI_recall_cyst", "cyst_Dice_where_present"}.isdisjoint(beside_figures(scores["b"]))
    rows = beside_rows(scores)
    assert (rows["ROI_recall_tumor"].mean, rows["ROI_recall_tumor"].pooled) == (0.625, 0.7)
    assert (rows["ROI_recall_cyst"].cases, rows["ROI_recall_cyst"].interval_95) == (1, None)
    assert (rows["cyst_Dice"].cases, rows["cyst_Dice_where_present"].cases) == (2, 1)


def test_a_decoder_that_there_is_not_has_no_recall(scores):
    some = scores["a"].answers
    without = replace(some, reliability={"roi": some.reliability["roi"]})
    assert without.roi_recall("tumor") is None and some.roi_recall("tumor") == 1


def test_calibration_pools_the_voxels_of_all_cases(scores):
    assert calibration(scores)["tumor"].voxels[-1] == 400
    assert calibration(scores)["tumor"].expected_error == pytest.approx(1 - 70 / 400)


def test_label_maps_alone_have_cyst_dice_only(variants):
    scores = {"a": score_case(variants["same"], variants["shifted"], SPACING)}
    assert list(beside_rows(scores)) == ["cyst_Dice", "cyst_Dice_where_present"]
    assert not froc_curves(scores) and not calibration(scores)


def test_the_json_tells_them_and_reads_back(scores, tmp_path):
    write_metrics(tmp_path, scores, {}, {})
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["beside"]["ROI_recall_tumor"]["pooled"] == 0.7
    assert content["calibration"]["tumor"]["frequency"][-1] == 70 / 400 and set(content["froc"]) == {"tumors", "cysts"}
    assert content["cases"][0]["Dice_cyst"] == scores["a"].cyst_dice
    assert read_metrics(tmp_path).scores == scores


def test_files_of_an_older_kitsam_are_read_without_them(scores, tmp_path):
    write_metrics(tmp_path, scores, {}, {})
    content = json.loads((tmp_path / "metrics.json").read_text())
    for case in content["cases"]:
        del case["Dice_cyst"], case["answers"]
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    assert not beside_rows(read_metrics(tmp_path).scores)
