"""Networks for detail answer in `evaluate`, in `predict` and beside a second look, wherever their run is used."""

import shutil

import nibabel as nib
import numpy as np
import pytest
from tiny import CASCADE, evaluate_config
from trained import with_detail

from kitsam.evaluation import evaluate as evaluator
from kitsam.inference import bundle, predict
from kitsam.inference.bundle import read_bundle
from kitsam.inference.config import BundleConfig, CascadeConfig, PredictConfig
from kitsam.shards.reader import ShardSet
from kitsam.system.errors import OptionError
from kitsam.system.tensors import read_tensors


@pytest.fixture
def detailed(runs, tmp_path):
    return {**runs, "tumor": with_detail(runs["tumor"], tmp_path / "tumor")}


@pytest.fixture
def model(detailed, tmp_path):
    path = tmp_path / "model.safetensors"
    config = BundleConfig(detailed["roi"], path, detailed["tumor"], detailed["cyst"], CascadeConfig(**CASCADE))
    assert bundle.run(config) == 0
    return path


def labels_in(folder):
    return {path.name: np.asarray(nib.load(path).dataobj) for path in sorted(folder.glob("*.nii.gz"))}


def test_a_bundle_holds_the_networks_and_says_so_by_its_format(model, detailed):
    loaded = read_bundle(model).decoders
    (nets,) = loaded["tumor"].details
    stored = read_tensors(detailed["tumor"] / "decoder.safetensors").tensors
    assert all((stored[f"detail.{name}"] == tensor).all() for name, tensor in nets.state_dict().items())
    assert not loaded["cyst"].details and read_tensors(model).header["format"] == 4


def test_predict_labels_as_evaluate_does_and_not_as_without_them(data, shards, runs, detailed, model, tmp_path):
    assert evaluator.run(evaluate_config(data, shards, detailed, tmp_path / "with")) == 0
    assert evaluator.run(evaluate_config(data, shards, runs, tmp_path / "without")) == 0
    cases = [data / name for name in ShardSet(shards).manifest.split.val]
    assert predict.run(PredictConfig(cases, model, tmp_path / "predicted", device="cpu")) == 0
    with_them, without, predicted = (
        labels_in(tmp_path / folder) for folder in ("with/predictions", "without/predictions", "predicted")
    )
    assert with_them.keys() == predicted.keys()
    assert all((with_them[name] == predicted[name]).all() for name in predicted)
    assert any((with_them[name] != without[name]).any() for name in predicted)
    # Where the decoders see no kidney the networks are not asked.
    assert all(((with_them[name] > 0) == (without[name] > 0)).all() for name in predicted)


def test_evaluate_names_a_scan_that_they_lack(data, shards, detailed, tmp_path):
    name = ShardSet(shards).manifest.split.val[0]
    copy = shutil.copytree(data, tmp_path / "data")
    (copy / name / "imaging.nii.gz").unlink()
    with pytest.raises(OptionError, match=f"--tumor: no such file: .*{name}"):
        evaluator.run(evaluate_config(copy, shards, detailed, tmp_path / "out"))
