import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from resealing import replace_in_sealed
from tiny import evaluate_config

from kitsam.ct.case import find_cases
from kitsam.ct.volume import read_label
from kitsam.decoding.ask import kidney_boxes
from kitsam.decoding.runs import load_run
from kitsam.evaluation import evaluate as evaluator
from kitsam.evaluation import labelling
from kitsam.evaluation.case_results import is_done
from kitsam.evaluation.compare import read_comparison
from kitsam.evaluation.metrics import score_case
from kitsam.evaluation.results import read_metrics
from kitsam.inference.config import CascadeConfig
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import temporary_name


@pytest.fixture
def config(data, shards, runs, tmp_path):
    return evaluate_config(data, shards, runs, tmp_path / "results")


@pytest.fixture(scope="module")
def results(data, shards, runs, tmp_path_factory) -> Path:
    """What an evaluation wrote; not to be changed."""
    out = tmp_path_factory.mktemp("evaluated") / "results"
    assert evaluator.run(evaluate_config(data, shards, runs, out)) == 0
    return out


@pytest.fixture
def val(shards) -> list[str]:
    """The validation cases."""
    return json.loads((shards / "manifest.json").read_text())["split"]["val"]


def rows(out: Path) -> list[dict]:
    with open(out / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_every_validation_case_is_labelled_and_scored_at_its_own_resolution(config, val, capsys):
    assert evaluator.run(config) == 0
    assert [row["caseID"] for row in rows(config.out)] == [*val, "average"]
    for row, name in zip(rows(config.out), val):
        truth = read_label(find_cases(config.data)[name].segmentation)
        prediction = read_label(config.out / "predictions" / f"{name}.nii.gz")
        assert prediction.voxels.any()
        expected = score_case(truth.voxels, prediction.voxels, truth.spacing)
        assert float(row["Dice_tumor"]) == pytest.approx(expected.tumor_dice)
        assert float(row["SD_kidney"]) == pytest.approx(expected.kidney_and_mass_surface_dice)
    assert "metrics.csv" in capsys.readouterr().out


def test_two_processes_give_the_same_numbers(pair, results, val):
    assert len(val) == 2  # a case for each
    assert (pair.results / "metrics.csv").read_bytes() == (results / "metrics.csv").read_bytes()
    contents = [json.loads((out / "metrics.json").read_text()) for out in (pair.results, results)]
    for name in ("beside", "froc", "calibration", "cases"):
        assert contents[0][name] == contents[1][name]


def test_roi_recall_is_that_of_boxes_around_the_labels_and_all_voxels_asked_about_are_counted(results, data, runs, val):
    scores = read_metrics(results).scores
    for name in val:
        truth = read_label(find_cases(data)[name].segmentation)
        labels = read_label(results / "predictions" / f"{name}.nii.gz").voxels
        # Lesions are written into the ROI alone, so that the labels show where it was.
        boxes = kidney_boxes(labels > 0, truth.spacing[1:], load_run(runs["tumor"], "tumor").prompt)
        asked = np.zeros(labels.shape, bool)
        for z, (x0, y0, x1, y1) in zip(boxes.slices, np.ceil(boxes.boxes - 0.5).astype(int)):
            asked[z, y0:y1, x0:x1] = True
        tumor = truth.voxels == 2
        assert scores[name].answers.roi_recall("tumor") == (tumor & asked).sum() / tumor.sum()
        counted = scores[name].answers.reliability
        assert sum(counted["tumor"].voxels) == sum(counted["cyst"].voxels) == asked.sum()


def test_an_evaluation_is_set_beside_another_one(config, results, val, tmp_path, capsys):
    shutil.copytree(results, config.out)
    other = shutil.copytree(results, tmp_path / "other")
    content = json.loads((other / "metrics.json").read_text())
    content["settings"]["zero_shot"] = True
    content["cases"][0]["Dice_tumor"] += 0.25
    (other / "metrics.json").write_text(json.dumps(content))
    config.against = other
    assert evaluator.run(config) == 0
    comparison = read_comparison(config.out)
    assert comparison.cases == val and comparison.zero_shot
    assert {row.figure: row.difference for row in comparison.rows}["tumor_Dice"] == pytest.approx(-0.125)
    assert "zero-shot" in capsys.readouterr().out
    config.against = None
    evaluator.run(config)
    assert read_comparison(config.out) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "--against: neither metrics.json nor metrics.csv"), ("caseID\n", "has 0 of the scored cases")],
)
def test_what_cannot_be_set_beside_is_refused_before_any_work(content, message, config, tmp_path):
    config.against = tmp_path / "other"
    config.against.mkdir()
    if content:
        (config.against / "metrics.csv").write_text(content)
    with pytest.raises(KitsamError, match=message):
        evaluator.run(config)
    assert not (config.out / "metrics.csv").exists()


def test_what_an_older_kitsam_scored_without_answers_is_computed_again(results, val, tmp_path):
    out = shutil.copytree(results, tmp_path / "results")
    path = out / "cases" / f"{val[0]}.json"
    content = json.loads(path.read_text())
    assert is_done(out, val[0], content["fingerprint"])
    del content["scores"]["answers"], content["scores"]["cyst_dice"]
    path.write_text(json.dumps(content))
    assert not is_done(out, val[0], content["fingerprint"])


def test_started_again_only_what_is_missing_or_was_made_otherwise_is_computed(config, results, val, monkeypatch):
    shutil.copytree(results, config.out)
    before = rows(config.out)
    labelled = []
    original = labelling.label_volume
    monkeypatch.setattr(
        labelling, "label_volume", lambda *given, **named: labelled.append(1) or original(*given, **named)
    )
    evaluator.run(config)
    assert not labelled and rows(config.out) == before
    (config.out / "cases" / f"{val[0]}.json").unlink()
    evaluator.run(config)
    assert len(labelled) == 1 and rows(config.out) == before
    config.cascade = CascadeConfig(roi_threshold=0.4)
    evaluator.run(config)
    assert len(labelled) == 1 + len(val)


def test_what_a_killed_start_left_behind_is_removed(config):
    folder = config.out / "predictions"
    folder.mkdir(parents=True)
    with temporary_name(folder / "case_00000.nii.gz") as killed:
        pass
    killed.write_bytes(b"half")
    other = killed.with_name(".tmp-other-1-case_00000.nii.gz")  # may still be written, by another machine
    other.write_bytes(b"half")
    evaluator.run(config)
    assert not killed.exists() and other.exists() and list(folder.glob("case_*.nii.gz"))


def test_without_lesion_decoders_nothing_is_called_a_lesion(data, shards, runs, tmp_path):
    evaluator.run(evaluate_config(data, shards, {"roi": runs["roi"]}, tmp_path / "results"))
    labels = read_label(next((tmp_path / "results" / "predictions").iterdir())).voxels
    assert set(np.unique(labels)) <= {0, 1}


def test_a_shard_set_of_another_encoder_is_refused_by_name(config, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(config.shards, other)
    replace_in_sealed(other / "manifest.json", '"name": "tiny"', '"name": "vit_b"')
    config.shards = other
    with pytest.raises(
        KitsamError, match="other: encoder name is vit_b, but .*roi/decoder.safetensors was trained with tiny"
    ):
        evaluator.run(config)
    assert not config.out.exists()


def test_a_set_in_another_window_is_refused_by_name(config, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(config.shards, other)
    replace_in_sealed(other / "manifest.json", "-160.0", "-100.0")
    config.shards = other
    with pytest.raises(KitsamError, match="input window"):
        evaluator.run(config)


def test_data_without_the_validation_cases_are_refused(config, val, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(config.data, copy)
    shutil.rmtree(copy / val[0])
    config.data = copy
    with pytest.raises(OptionError, match=f"--data: .* lacks {val[0]}"):
        evaluator.run(config)


def test_a_case_whose_truth_is_damaged_is_left_out_and_told_by_the_exit_code(config, val, tmp_path, capsys):
    config.data = shutil.copytree(config.data, tmp_path / "data")
    first, second = val
    damage(config.data / first)
    assert evaluator.run(config) == 1
    assert f"{first} is left out" in capsys.readouterr().err
    assert "skipped" in json.loads((config.out / "cases" / f"{first}.json").read_text())
    assert [row["caseID"] for row in rows(config.out)] == [second, "average"]


def test_where_no_case_can_be_evaluated_it_is_an_error_that_names_them(config, val, tmp_path):
    config.data = shutil.copytree(config.data, tmp_path / "data")
    for name in val:
        damage(config.data / name)
    with pytest.raises(KitsamError, match=f"no validation case could be evaluated: .*{val[0]}.*{val[1]}"):
        evaluator.run(config)


def damage(case: Path) -> None:
    truth = case / "segmentation.nii.gz"
    truth.write_bytes(truth.read_bytes()[:-20])
