"""The official metrics of label volumes, and the files that they end in."""

import csv
import json
from io import StringIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from kitsam import __version__
from kitsam.evaluation.metrics import COLUMNS, missing_prediction, score_case
from kitsam.evaluation.results import read_metrics, write_metrics
from kitsam.evaluation.summary import PAPER, averages, results_table, summarize
from kitsam.system.errors import KitsamError

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")

SPACING = (3.0, 0.75, 0.8)
REAL_LABELS = Path(__file__).parents[2] / ".." / "shared" / "data" / "kits23_labels"
VARIANTS = (
    "same", "shifted", "eroded", "grown", "empty", "no tumor", "no cyst", "no mass", "tumor as cyst",
    "everything tumor", "one voxel",
)  # fmt: skip


@pytest.mark.parametrize("prediction", VARIANTS)
@pytest.mark.parametrize("truth", ["same", "no tumor", "no cyst", "no mass", "empty"])
def test_scores_equal_the_official_ones(truth, prediction, variants, official_scores):
    expected = official_scores(variants[truth], variants[prediction], SPACING)
    assert score_case(variants[truth], variants[prediction], SPACING).columns == pytest.approx(expected, abs=1e-6)


@pytest.mark.skipif(not REAL_LABELS.is_dir(), reason="needs KiTS23 label volumes")
def test_scores_of_a_real_case_equal_the_official_ones(official_scores):
    image = nib.load(REAL_LABELS / "case_00527.nii.gz")
    truth = np.asarray(image.dataobj).astype(np.uint8)
    # The reference needs seconds a whole case; a slab with all classes will do.
    truth = truth[10:22]
    assert set(np.unique(truth)) >= {0, 1, 2}
    prediction = np.roll(truth, (1, 3, -2), (0, 1, 2))
    spacing = tuple(float(mm) for mm in image.header.get_zooms())
    expected = official_scores(truth, prediction, spacing)
    assert score_case(truth, prediction, spacing).columns == pytest.approx(expected, abs=1e-6)


def test_dice_of_the_groups_by_hand():
    truth = np.array([[[1, 1, 2, 2, 3, 0, 0, 0]]], np.uint8)
    prediction = np.array([[[0, 1, 2, 3, 3, 2, 0, 0]]], np.uint8)
    scores = score_case(truth, prediction, (1.0, 1.0, 1.0))
    # kidney and masses: 4 of 5 and 5; masses: 3 of 3 and 4; tumor: 1 of 2 and 2
    assert scores.kidney_and_mass_dice == pytest.approx(2 * 4 / 10)
    assert scores.mass_dice == pytest.approx(2 * 3 / 7)
    assert scores.tumor_dice == pytest.approx(2 * 1 / 4)


def test_volumes_are_in_milliliters_by_class():
    truth = np.zeros((10, 10, 10), np.uint8)
    truth[:5], truth[5, :4], truth[6, 0, 0] = 1, 2, 3
    scores = score_case(truth, np.zeros_like(truth), (5.0, 2.0, 1.0))
    assert (scores.true_kidney_ml, scores.true_tumor_ml, scores.true_cyst_ml) == pytest.approx((5.0, 0.4, 0.01))
    assert (scores.predicted_kidney_ml, scores.predicted_tumor_ml, scores.predicted_cyst_ml) == (0, 0, 0)


def test_groups_that_both_lack_score_1_and_that_one_lacks_score_0(variants):
    without = score_case(variants["no mass"], variants["no mass"], SPACING)
    assert (without.tumor_dice, without.tumor_surface_dice, without.mass_dice) == (1, 1, 1)
    missed = score_case(variants["same"], variants["no mass"], SPACING)
    assert (missed.tumor_dice, missed.tumor_surface_dice, missed.mass_dice) == (0, 0, 0)
    invented = score_case(variants["no mass"], variants["same"], SPACING)
    assert (invented.tumor_dice, invented.tumor_surface_dice, invented.mass_dice) == (0, 0, 0)
    nothing = score_case(variants["empty"], variants["empty"], SPACING)
    assert set(nothing.columns.values()) == {1.0}


def test_a_missing_prediction_scores_0_even_where_the_truth_is_empty(variants):
    scores = missing_prediction(variants["no mass"], SPACING)
    assert set(scores.columns.values()) == {0.0}
    assert scores.missing and scores.true_kidney_ml > 0 and scores.predicted_kidney_ml == 0


@pytest.fixture
def scores(variants):
    return {
        f"case_{number:05d}": score_case(variants["same"], variants[name], SPACING)
        for number, name in enumerate(VARIANTS)
    }


def test_the_csv_is_the_official_one_with_the_average_last(scores, tmp_path):
    shuffled = dict(reversed(scores.items()))
    write_metrics(tmp_path, shuffled, {}, {})
    rows = list(csv.reader((tmp_path / "metrics.csv").open(newline="")))
    assert rows[0] == ["caseID", "Dice_kidney", "Dice_masses", "Dice_tumor", "SD_kidney", "SD_masses", "SD_tumor"]
    assert [row[0] for row in rows[1:]] == [*scores, "average"]
    values = np.array([row[1:] for row in rows[1:]], float)
    np.testing.assert_allclose(values[-1], values[:-1].mean(axis=0))
    np.testing.assert_array_equal(values[1], list(scores["case_00001"].columns.values()))


def test_the_summary_is_the_mean_of_the_averages(scores):
    average, summary = averages(scores), summarize(scores)
    assert summary["Dice"] == pytest.approx(
        (average["Dice_kidney"] + average["Dice_masses"] + average["Dice_tumor"]) / 3
    )
    assert summary["surface_Dice"] == pytest.approx(
        (average["SD_kidney"] + average["SD_masses"] + average["SD_tumor"]) / 3
    )
    assert summary["tumor_Dice"] == average["Dice_tumor"]
    assert summary["kidney_and_masses_Dice"] == average["Dice_kidney"]
    assert summary["masses_Dice"] == average["Dice_masses"]


def test_the_json_says_what_the_csv_cannot_and_reads_back(scores, tmp_path):
    settings, skipped = {"command": "score", "data": "/data"}, {"case_00099": "damaged"}
    write_metrics(tmp_path, scores, settings, skipped)
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert list(content) == [
        "format", "kitsam", "summary", "average", "intervals_95", "lesions", "beside", "cases", "skipped", "settings"
    ]  # fmt: skip
    assert (content["format"], content["kitsam"], content["skipped"]) == (1, __version__, skipped)
    assert list(content["summary"]) == list(PAPER) and list(content["average"]) == list(COLUMNS)
    first = content["cases"][0]
    assert first["case"] == "case_00000" and first["Dice_tumor"] == 1.0
    assert first["volumes_ml"]["true"]["tumor"] == pytest.approx(scores["case_00000"].true_tumor_ml)
    metrics = read_metrics(tmp_path)
    assert (metrics.scores, metrics.settings, metrics.skipped) == (scores, settings, skipped)


def test_without_any_case_nothing_is_written(tmp_path):
    with pytest.raises(KitsamError, match="case_1: truncated"):
        write_metrics(tmp_path, {}, {}, {"case_1": "case_1: truncated"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "run `kitsam evaluate` or `kitsam score` first"),
        ("{", "cannot be read as JSON"),
        ('{"format": 7}', "format 1"),
        ('{"format": 1, "cases": [{"case": "a"}]}', "damaged"),
    ],
)
def test_an_unusable_metrics_file_is_named(content, message, tmp_path):
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(KitsamError, match=message) as error:
        read_metrics(tmp_path)
    assert str(tmp_path / "metrics.json") in str(error.value)


def text_of(table) -> str:
    console = Console(width=100, record=True, file=StringIO())
    console.print(table)
    return console.export_text()


def test_the_table_shows_the_summary_first_and_says_whose_the_papers_figures_are(scores):
    text = text_of(results_table(scores, paper=True))
    lines = [line.split("│")[1:-1] for line in text.splitlines() if "│" in line]
    assert [line[0].strip() for line in lines[:3]] == ["Dice", "surface Dice", "tumor Dice"]
    assert lines[0][1].strip() == f"{summarize(scores)['Dice']:.3f}"
    assert [line[5].strip() for line in lines[:5]] == ["0.432", "0.239", "0.222", "0.807", "0.268"]
    assert "test cases of KiTS23" in text
    assert "paper" not in text_of(results_table(scores)) and "0.432" not in text_of(results_table(scores))
