"""Bundles and evaluations of several runs a target."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from label_maps import labels
from tiny import CASCADE, embed_config, evaluate_config, train_config

from kitsam.embedding import run as embedding
from kitsam.evaluation import evaluate
from kitsam.evaluation.results import read_metrics
from kitsam.inference import bundle, predict
from kitsam.inference.bundle import read_bundle
from kitsam.inference.config import BundleConfig, CascadeConfig, PredictConfig
from kitsam.inference.predictions import PredictionRecord
from kitsam.system.errors import OptionError
from kitsam.system.seals import read_sealed
from kitsam.system.tensors import read_tensors, write_tensors
from kitsam.training import loop


@pytest.fixture(scope="module")
def seeds(shards, runs, tmp_path_factory):
    """ROI runs of two seeds."""
    other = tmp_path_factory.mktemp("seeds") / "roi-1"
    assert loop.run(train_config("roi", shards, other, seed=1)) == 0
    return [runs["roi"], other]


@pytest.fixture(scope="module")
def model(seeds, runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle") / "model.safetensors"
    assert bundle.run(BundleConfig(seeds, out, runs["tumor"], [runs["cyst"]], CascadeConfig(**CASCADE))) == 0
    return out


def test_the_bundle_holds_each_run_and_what_it_was_trained_on(model, seeds):
    loaded = read_bundle(model)
    assert [len(loaded.decoders[target].decoders) for target in ("roi", "tumor", "cyst")] == [2, 1, 1]
    for decoder, run in zip(loaded.decoders["roi"].decoders, seeds):
        state, trained = decoder.state_dict(), read_tensors(run / "decoder.safetensors").tensors
        assert all(torch.equal(state[name], value) for name, value in trained.items())
    header = read_tensors(model).header
    assert header["format"] == 2 and len(header["shard_sets"]["roi"]) == 2 and "train" in header["shard_sets"]["tumor"]


def test_a_bundle_of_one_run_each_is_of_the_first_format_however_it_is_asked_for(runs, tmp_path):
    paths = [tmp_path / name for name in ("one", "list")]
    for path, roi in zip(paths, (runs["roi"], [runs["roi"]])):
        bundle.run(BundleConfig(roi, path, runs["tumor"]))
    assert paths[0].read_bytes() == paths[1].read_bytes() and read_tensors(paths[0]).header["format"] == 1


def test_evaluate_and_predict_average_the_same_runs(model, data, shards, seeds, runs, tmp_path):
    config = evaluate_config(data, shards, {**runs, "roi": seeds}, tmp_path / "results")
    assert evaluate.run(config) == 0
    assert read_metrics(config.out).settings["runs"]["roi"] == [str(run) for run in seeds]
    name = json.loads((shards / "manifest.json").read_text())["split"]["val"][0]
    assert predict.run(PredictConfig([data / name / "imaging.nii.gz"], model, tmp_path / "out", device="cpu")) == 0
    found = labels(config.out / "predictions" / f"{name}.nii.gz")
    assert found.any() and np.array_equal(labels(tmp_path / "out" / f"{name}.nii.gz"), found)
    alone = evaluate_config(data, shards, runs, tmp_path / "alone")
    evaluate.run(alone)
    assert not np.array_equal(labels(alone.out / "predictions" / f"{name}.nii.gz"), found)


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("encoder", "input_size", 128, "encoder input_size is 128"),
        ("input", "window", [-100.0, 240.0], "input window is"),
        ("input", "crop", "body", "input crop is"),
        (None, "margin", 0.3, "--roi: .*other was trained with prompt.margin 0.3, but .*roi with 0.1"),
    ],
)
def test_runs_that_do_not_fit_are_refused_by_name(runs, tmp_path, part, name, value, message):
    other = shutil.copytree(runs["roi"], tmp_path / "other")
    tensors, header = read_tensors(other / "decoder.safetensors")
    (header["shard_set"]["signature"][part] if part else header["prompt"])[name] = value
    write_tensors(other / "decoder.safetensors", tensors, header)
    with pytest.raises(OptionError, match=message) as refusal:
        bundle.run(BundleConfig([runs["roi"], other], tmp_path / "model"))
    assert "other" in str(refusal.value) and not (tmp_path / "model").exists()


def test_a_run_of_another_target_or_named_twice_is_refused(runs, tmp_path):
    with pytest.raises(OptionError, match="--roi: .*tumor is a run of the tumor decoder"):
        bundle.run(BundleConfig([runs["roi"], runs["tumor"]], tmp_path / "model"))
    with pytest.raises(OptionError, match="--roi: .* is named twice"):
        BundleConfig([runs["roi"], runs["roi"].parent / "." / "roi"], tmp_path / "model").check_places()


def test_a_case_that_one_of_several_folds_trained_on_is_refused(data, tmp_path):
    folds = tmp_path / "folds"
    assert embedding.run(embed_config(data, folds, folds=2)) == 0
    runs = [tmp_path / "fold-0", tmp_path / "fold-1"]
    for fold, run in enumerate(runs):
        loop.run(train_config("roi", folds, run, steps=1, fold=fold))
    assert bundle.run(BundleConfig(runs, tmp_path / "model")) == 0
    with pytest.raises(OptionError, match="--roi: .*fold-1 was trained on .*, which validates in"):
        evaluate.run(evaluate_config(data, folds, {"roi": runs}, tmp_path / "out", fold=0))


# Flips


def test_flips_ask_the_mirrored_scan_too(model, ct, tmp_path):
    plain, flipped = tmp_path / "plain", tmp_path / "flipped"
    for out, flips in ((plain, False), (flipped, True)):
        assert predict.run(PredictConfig([ct], model, out, flips=flips, device="cpu")) == 0
    assert not np.array_equal(labels(plain / "case_00000.nii.gz"), labels(flipped / "case_00000.nii.gz"))
    assert read_sealed(flipped / "case_00000.json", PredictionRecord).flips
    assert "flips" not in json.loads((plain / "case_00000.json").read_text())
    with pytest.raises(OptionError, match="--out: .* is made without --flips: kept"):
        predict.run(PredictConfig([ct], model, plain, flips=True, device="cpu"))


def test_with_flips_a_mirrored_scan_gives_the_mirrored_answer(model, ct, tmp_path):
    scan = nib.load(ct)
    voxels = np.asanyarray(scan.dataobj)
    # The last axis of KiTS's files is the columns: the same affine, so that the slices themselves are mirrored.
    nib.save(nib.Nifti1Image(voxels[:, :, ::-1], scan.affine), tmp_path / "mirrored.nii.gz")
    scans = [ct, tmp_path / "mirrored.nii.gz"]
    assert predict.run(PredictConfig(scans, model, tmp_path / "out", flips=True, device="cpu")) == 0
    first, second = (labels(tmp_path / "out" / f"{name}.nii.gz") for name in ("case_00000", "mirrored"))
    assert first.any() and (first != second[:, :, ::-1]).mean() < 1e-3


def test_evaluate_with_flips_gives_what_predict_gives(model, data, shards, seeds, runs, tmp_path):
    config = evaluate_config(data, shards, {**runs, "roi": seeds}, tmp_path / "results", flips=True)
    assert evaluate.run(config) == 0
    assert read_metrics(config.out).settings["flips"] is True
    name = json.loads((shards / "manifest.json").read_text())["split"]["val"][0]
    scans = [data / name / "imaging.nii.gz"]
    assert predict.run(PredictConfig(scans, model, tmp_path / "out", flips=True, device="cpu")) == 0
    found = labels(config.out / "predictions" / f"{name}.nii.gz")
    assert found.any() and np.array_equal(labels(tmp_path / "out" / f"{name}.nii.gz"), found)


def test_evaluate_with_flips_wants_the_scans_that_were_embedded(data, shards, runs, tmp_path):
    own = shutil.copytree(data, tmp_path / "data")
    name = json.loads((shards / "manifest.json").read_text())["split"]["val"][0]
    path = own / name / "imaging.nii.gz"
    shutil.copy(next(folder for folder in sorted(own.iterdir()) if folder.name != name) / "imaging.nii.gz", path)
    with pytest.raises(OptionError, match=f"--flips: {path}: not the scan that"):
        evaluate.run(evaluate_config(own, shards, runs, tmp_path / "out", flips=True))
    path.unlink()
    with pytest.raises(OptionError, match=f"--flips: no such file: {path}"):
        evaluate.run(evaluate_config(own, shards, runs, tmp_path / "out", flips=True))
