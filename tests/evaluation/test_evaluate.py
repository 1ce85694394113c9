import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kitsam.ct.case import find_cases
from kitsam.ct.volume import read_label
from kitsam.evaluation import evaluate as evaluator
from kitsam.evaluation.config import EvaluateConfig
from kitsam.evaluation.metrics import score_case
from kitsam.inference.config import CascadeConfig
from kitsam.system.errors import KitsamError, OptionError

CASCADE = CascadeConfig(roi_threshold=0.3, lesion_threshold=0.2, smallest_roi=0.01, smallest_lesion=0.0)


@pytest.fixture
def config(data, shards, runs, tmp_path):
    return EvaluateConfig(shards, data, runs["roi"], tmp_path / "results", runs["tumor"], runs["cyst"], CASCADE)


def rows(out: Path) -> list[dict]:
    with open(out / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_every_validation_case_is_labelled_and_scored_at_its_own_resolution(config, capsys):
    assert evaluator.run(config) == 0
    val = json.loads((config.shards / "manifest.json").read_text())["split"]["val"]
    assert [row["caseID"] for row in rows(config.out)] == [*val, "average"]
    for row, name in zip(rows(config.out), val):
        truth = read_label(find_cases(config.data)[name].segmentation)
        prediction = read_label(config.out / "predictions" / f"{name}.nii.gz")
        assert prediction.voxels.any()
        expected = score_case(truth.voxels, prediction.voxels, truth.spacing)
        assert float(row["Dice_tumor"]) == pytest.approx(expected.tumor_dice)
        assert float(row["SD_kidney"]) == pytest.approx(expected.kidney_and_mass_surface_dice)
    assert "metrics.csv" in capsys.readouterr().out


def test_two_processes_give_the_same_numbers(config, tmp_path):
    evaluator.run(config)
    out = tmp_path / "two"
    options = {
        "shards": config.shards,
        "data": config.data,
        "roi": config.roi,
        "tumor": config.tumor,
        "cyst": config.cyst,
    }
    command = ["torchrun", "--standalone", "--nproc_per_node=2", "-m", "kitsam", "evaluate", "--out", str(out)]
    command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command += ["--cascade.roi_threshold=0.3", "--cascade.lesion_threshold=0.2"]
    command += ["--cascade.smallest_roi=0.01", "--cascade.smallest_lesion=0.0"]
    # Sums come out alike to the last bit only with the same number of threads.
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    environment = {**os.environ, **threads, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(command, check=True, env=environment, timeout=240)
    assert (out / "metrics.csv").read_bytes() == (config.out / "metrics.csv").read_bytes()


def test_started_again_only_what_is_missing_or_was_made_otherwise_is_computed(config, monkeypatch):
    evaluator.run(config)
    before = rows(config.out)
    labelled = []
    original = evaluator.label_volume
    monkeypatch.setattr(evaluator, "label_volume", lambda *given: labelled.append(1) or original(*given))
    evaluator.run(config)
    assert not labelled and rows(config.out) == before
    config.cascade = CascadeConfig(roi_threshold=0.4)
    evaluator.run(config)
    assert len(labelled) == 1


def test_what_a_killed_start_left_behind_is_removed(config):
    leftover = config.out / "predictions" / ".tmp-1-case_00000.nii.gz"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    evaluator.run(config)
    assert not leftover.exists() and list(leftover.parent.glob("case_*.nii.gz"))


def test_without_lesion_decoders_nothing_is_called_a_lesion(data, shards, runs, tmp_path):
    evaluator.run(EvaluateConfig(shards, data, runs["roi"], tmp_path / "results", cascade=CASCADE))
    labels = read_label(next((tmp_path / "results" / "predictions").iterdir())).voxels
    assert set(np.unique(labels)) <= {0, 1}


def test_a_shard_set_of_another_encoder_is_refused_by_name(config, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(config.shards, other)
    text = (other / "manifest.json").read_text()
    (other / "manifest.json").write_text(text.replace('"name": "tiny"', '"name": "vit_b"'))
    config.shards = other
    with pytest.raises(
        KitsamError, match="other: encoder name is vit_b, but .*roi/decoder.safetensors was trained with tiny"
    ):
        evaluator.run(config)
    assert not config.out.exists()


def test_a_set_in_another_window_is_refused_by_name(config, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(config.shards, other)
    text = (other / "manifest.json").read_text()
    (other / "manifest.json").write_text(text.replace("-160.0", "-100.0"))
    config.shards = other
    with pytest.raises(KitsamError, match="input window"):
        evaluator.run(config)


def test_data_without_the_validation_cases_are_refused(config, tmp_path):
    val = json.loads((config.shards / "manifest.json").read_text())["split"]["val"]
    copy = tmp_path / "data"
    shutil.copytree(config.data, copy)
    shutil.rmtree(copy / val[0])
    config.data = copy
    with pytest.raises(OptionError, match=f"--data: .* lacks {val[0]}"):
        evaluator.run(config)


def test_a_case_whose_truth_is_damaged_is_left_out_and_told_by_the_exit_code(config, tmp_path, capsys):
    (val,) = json.loads((config.shards / "manifest.json").read_text())["split"]["val"]
    config.data = shutil.copytree(config.data, tmp_path / "data")
    truth = config.data / val / "segmentation.nii.gz"
    truth.write_bytes(truth.read_bytes()[:-20])
    with pytest.raises(KitsamError, match=f"no validation case could be evaluated: .*{val}"):
        evaluator.run(config)
    assert f"{val} is left out" in capsys.readouterr().err
    assert "skipped" in json.loads((config.out / "cases" / f"{val}.json").read_text())
