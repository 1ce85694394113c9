"""`kitsam score` on folders of files, good and bad."""

import csv
import gzip
import json
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from kitsam.ct.case import CaseFiles
from kitsam.evaluation import score
from kitsam.evaluation.case_files import score_files
from kitsam.evaluation.config import ScoreConfig
from kitsam.evaluation.metrics import score_case
from kitsam.system.errors import KitsamError, OptionError

SPACING = (3.0, 0.75, 0.8)
IPL = np.array([[0, 0, -SPACING[2], 90.0], [0, -SPACING[1], 0, 50.0], [-SPACING[0], 0, 0, 10.0], [0, 0, 0, 1]])


@pytest.fixture
def data(tmp_path, anatomy, save):
    """Four cases with the same truth."""
    folder = tmp_path / "data"
    for number in range(4):
        save(folder / f"case_{number:05d}" / "segmentation.nii.gz", anatomy)
    return folder


@pytest.fixture
def predictions(tmp_path):
    folder = tmp_path / "predictions"
    folder.mkdir()
    return folder


@pytest.fixture
def run(tmp_path, data, predictions):
    """Score, and read what was written: exit code, rows of the CSV, the JSON."""

    def score_all():
        out = tmp_path / "out"
        code = score.run(ScoreConfig(predictions, data, out))
        rows = {row["caseID"]: row for row in csv.DictReader((out / "metrics.csv").open(newline=""))}
        return code, rows, json.loads((out / "metrics.json").read_text())

    return score_all


def test_good_predictions_are_scored_alike_in_any_orientation(run, data, predictions, variants, save, capsys):
    for number, orientation in enumerate(("IPL", "RAS", "LPS", "SAR")):
        save(predictions / f"case_{number:05d}.nii.gz", variants["shifted"], orientation)
    code, rows, content = run()
    expected = score_case(variants["same"], variants["shifted"], SPACING).columns
    assert code == 0 and list(rows) == [f"case_{number:05d}" for number in range(4)] + ["average"]
    for row in rows.values():
        assert {name: float(row[name]) for name in expected} == pytest.approx(expected, abs=1e-6)
    assert content["settings"] == {
        "command": "score", "data": str(data), "predictions": str(predictions), "only_present": False,
        "origins": {"scan": 4},
    }  # fmt: skip
    printed = capsys.readouterr()
    assert "warning" not in printed.err
    assert "metrics.csv" in printed.out and "metrics.json" in printed.out
    assert "4 scans that are no whole cases of KiTS23" in printed.out and "paper" not in printed.out


def test_what_is_missing_extra_or_misnamed_is_listed(run, predictions, anatomy, save, capsys):
    for name in ("case_00000", "case_00001", "case_00007", "CASE_00003", "case_00002_pred"):
        save(predictions / f"{name}.nii.gz", anatomy)
    save(predictions / "case_00002.nii", anatomy)
    code, rows, content = run()
    assert code == 0
    assert [float(rows[f"case_{number:05d}"]["Dice_tumor"]) for number in range(4)] == [1, 1, 0, 0]
    assert float(rows["average"]["SD_kidney"]) == 0.5
    assert [case["missing"] for case in content["cases"]] == [False, False, True, True]
    warnings = capsys.readouterr().err
    assert "2 of 4 cases have no prediction and count 0: case_00002, case_00003" in warnings
    for name in ("case_00007.nii.gz", "CASE_00003.nii.gz", "case_00002_pred.nii.gz", "case_00002.nii"):
        assert name in warnings


def test_a_bad_file_is_left_out_named_and_told_by_the_exit_code(run, predictions, anatomy, save, capsys):
    _, cut, short, odd = (save(predictions / f"case_{number:05d}.nii.gz", anatomy) for number in range(4))
    cut.write_bytes(cut.read_bytes()[:-200])
    save(short, anatomy[:, :, :-1])
    save(odd, anatomy * 5)
    code, rows, content = run()
    assert code == 1 and list(rows) == ["case_00000", "average"]
    assert list(content["skipped"]) == ["case_00001", "case_00002", "case_00003"]
    for path, reason in ((cut, "truncated"), (short, "shape"), (odd, "label 5")):
        assert str(path) in content["skipped"][path.name.removesuffix(".nii.gz")]
        assert reason in content["skipped"][path.name.removesuffix(".nii.gz")]
    assert "3 of 4 cases could not be scored" in capsys.readouterr().err


def test_a_prediction_that_lies_elsewhere_is_scored_with_a_warning(run, predictions, anatomy, save, capsys):
    for number in range(4):
        save(predictions / f"case_{number:05d}.nii.gz", anatomy)
    moved = nib.load(predictions / "case_00002.nii.gz")
    affine = moved.affine.copy()
    affine[:3, 3] += (0, 2.5, 0)
    nib.save(nib.Nifti1Image(np.asarray(moved.dataobj), affine), predictions / "case_00002.nii.gz")
    code, rows, _ = run()
    assert code == 0 and float(rows["case_00002"]["Dice_tumor"]) == 1
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1 and "case_00002.nii.gz" in warnings[0] and "2.5" in warnings[0]


def test_a_test_case_without_truth_is_no_part_of_it(run, data, predictions, anatomy, save):
    save(data / "case_00009" / "imaging.nii.gz", anatomy)
    for number in range(4):
        save(predictions / f"case_{number:05d}.nii.gz", anatomy)
    code, rows, _ = run()
    assert code == 0 and "case_00009" not in rows


def test_a_case_without_truth_is_named(run, data, predictions, anatomy, save, capsys):
    save(data / "case_00009" / "imaging.nii.gz", anatomy)
    save(predictions / "case_00000.nii.gz", anatomy)
    run()
    assert "without a segmentation" in (said := capsys.readouterr().out) and "case_00009" in said


def test_a_truth_that_leads_nowhere_is_a_bad_case(run, data, predictions, anatomy, save):
    save(predictions / "case_00000.nii.gz", anatomy)
    (data / "case_00001" / "segmentation.nii.gz").unlink()
    (data / "case_00001" / "segmentation.nii.gz").symlink_to("/nowhere")
    code, _, content = run()
    assert code == 1 and "a link to /nowhere" in content["skipped"]["case_00001"]


def test_a_truth_that_does_not_lie_where_its_scan_lies_is_a_bad_case(run, data, predictions, anatomy, save):
    for number in range(4):
        save(predictions / f"case_{number:05d}.nii.gz", anatomy)
        save(data / f"case_{number:05d}" / "imaging.nii.gz", anatomy)
    save(data / "case_00001" / "imaging.nii.gz", anatomy, affine=IPL * [[1], [1], [-1], [1]])
    code, rows, content = run()
    assert code == 1 and "case_00001" not in rows and len(rows) == 4
    assert "does not lie where its scan lies" in content["skipped"]["case_00001"]


def test_volumes_of_a_tilted_case_are_its_own_and_its_scores_the_official_ones(run, data, predictions, anatomy, save):
    tilted = IPL.copy()
    tilted[1, 0] += abs(tilted[2, 0]) * np.tan(np.deg2rad(25))
    image = nib.Nifti1Image(anatomy, tilted)
    for path in (data / "case_00000" / "segmentation.nii.gz", predictions / "case_00000.nii.gz"):
        nib.save(image, path)
    _, rows, content = run()
    assert float(rows["case_00000"]["SD_kidney"]) == 1
    volume = (anatomy == 2).sum() * abs(np.linalg.det(tilted)) / 1000
    assert content["cases"][0]["volumes_ml"]["true"]["tumor"] == pytest.approx(volume)
    assert sum(content["cases"][0]["tumors_ml"]["found"]) == pytest.approx(volume)


@pytest.mark.parametrize("parts", [("Tr",), ("Ts",), ("Tr", "Ts")])
def test_of_nnunets_two_parts_those_are_scored_that_were_predicted(tmp_path, predictions, anatomy, save, parts, capsys):
    data = tmp_path / "nnunet"
    for part, name in (("Tr", "a"), ("Tr", "b"), ("Ts", "c"), ("Ts", "d")):
        save(data / f"images{part}" / f"{name}_0000.nii.gz", anatomy)
        save(data / f"labels{part}" / f"{name}.nii.gz", anatomy)
        if part in parts and name in "ac":
            save(predictions / f"{name}.nii.gz", anatomy)
    out = tmp_path / "out"
    assert score.run(ScoreConfig(predictions, data, out, workers=1)) == 0
    rows = [row["caseID"] for row in csv.DictReader((out / "metrics.csv").open(newline=""))]
    assert rows == [*(name for part in parts for name in {"Tr": "ab", "Ts": "cd"}[part]), "average"]
    assert ("Scored: the test cases" in capsys.readouterr().out) == ("Ts" in parts)


def test_a_folder_without_predictions_is_an_error_that_names_the_option(data, tmp_path, predictions, anatomy, save):
    (predictions / "notes.txt").write_text("nothing here")
    for folder in (tmp_path / "nowhere", predictions):
        with pytest.raises(OptionError, match="predictions: .*" + str(folder)):
            score.run(ScoreConfig(folder, data, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_where_no_case_can_be_scored_nothing_is_written(data, predictions, tmp_path):
    with gzip.open(predictions / "case_00000.nii.gz", "wb") as file:
        file.write(b"no label map")
    for number in range(1, 4):
        (data / f"case_{number:05d}" / "segmentation.nii.gz").write_bytes(b"")
        (predictions / f"case_{number:05d}.nii.gz").write_bytes(b"")
    with pytest.raises(KitsamError, match="case_00000.nii.gz"):
        score.run(ScoreConfig(predictions, data, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_only_present_leaves_cases_without_a_prediction_out(data, predictions, anatomy, save, tmp_path, capsys):
    save(predictions / "case_00001.nii.gz", anatomy)
    out = tmp_path / "out"
    assert score.run(ScoreConfig(predictions, data, out, only_present=True)) == 0
    rows = list(csv.DictReader((out / "metrics.csv").open(newline="")))
    assert [row["caseID"] for row in rows] == ["case_00001", "average"] and float(rows[1]["Dice_tumor"]) == 1
    assert "3 of 4 cases have no prediction and are left out: case_00000" in capsys.readouterr().err


def test_a_misnamed_file_is_listed_with_the_case_it_was_perhaps_meant_for(run, predictions, anatomy, save, capsys):
    save(predictions / "case_00000.nii.gz", anatomy)
    save(predictions / "prediction_00002.nii.gz", anatomy)
    run()
    assert "prediction_00002.nii.gz (meant for case_00002.nii.gz?)" in capsys.readouterr().err


def test_the_number_of_processes_does_not_matter_but_must_be_one(data, predictions, variants, save, tmp_path):
    for number, name in enumerate(("shifted", "eroded", "no tumor", "empty")):
        save(predictions / f"case_{number:05d}.nii.gz", variants[name])
    for workers in (1, 3):
        assert score.run(ScoreConfig(predictions, data, tmp_path / str(workers), workers=workers)) == 0
    first, second = ((tmp_path / str(workers) / "metrics.json").read_bytes() for workers in (1, 3))
    assert first == second
    with pytest.raises(OptionError, match="--workers: must be at least 1, not 0"):
        score.run(ScoreConfig(predictions, data, tmp_path / "none", workers=0))


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_a_case_takes_the_memory_of_three_label_maps_at_most(dtype, anatomy, save, tmp_path):
    labels = np.zeros((60, 512, 512), dtype)
    labels[20:34, 100:132, 200:240] = anatomy
    truth = save(tmp_path / "truth.nii.gz", labels)
    labels[:3, :3, :3] = labels[-3:, -3:, -3:] = 2
    prediction = save(tmp_path / "prediction.nii.gz", labels)
    files = CaseFiles("case_00000", tmp_path / "imaging.nii.gz", truth)
    score_files(files, prediction)  # imports and tables are no part of a case
    tracemalloc.start()
    score_files(files, prediction)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * labels.size  # bytes of a map: a voxel takes one, whatever the file's format
