import shutil

import pytest
import torch
from safetensors.torch import load_file

from kitsam.inference import bundle, predict
from kitsam.inference.bundle import read_bundle
from kitsam.inference.config import BundleConfig, PredictConfig
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.tensors import read_tensors, write_tensors


def test_the_bundle_holds_all_that_was_trained(model, runs):
    loaded = read_bundle(model)
    assert loaded.encoder.input_size == 64 and loaded.input.window == (-160.0, 240.0)
    for target in ("roi", "tumor", "cyst"):
        state = loaded.decoders[target].decoders[0].state_dict()
        assert all(
            torch.equal(value, state[name]) for name, value in load_file(runs[target] / "decoder.safetensors").items()
        )


def test_how_far_a_decoder_sees_goes_with_its_run(runs, tmp_path):
    run = tmp_path / "tumor"
    shutil.copytree(runs["tumor"], run)
    tensors, header = read_tensors(run / "decoder.safetensors")
    header["prompt"]["sight"] = 0.5
    write_tensors(run / "decoder.safetensors", tensors, header)
    assert bundle.run(BundleConfig(runs["roi"], tmp_path / "model", run)) == 0
    loaded = read_bundle(tmp_path / "model")
    assert loaded.decoders["tumor"].decoders[0].sight == 0.5 and loaded.decoders["roi"].decoders[0].sight is None


def test_what_is_no_bundle_is_refused_by_name(runs, ct, tmp_path):
    with pytest.raises(OptionError, match="--model: no such file"):
        predict.run(PredictConfig([ct], tmp_path / "none", tmp_path, device="cpu"))
    with pytest.raises(KitsamError, match="decoder.safetensors: not a bundle"):
        predict.run(PredictConfig([ct], runs["roi"] / "decoder.safetensors", tmp_path, device="cpu"))


def test_runs_of_different_encoders_make_no_bundle(runs, tmp_path):
    other = tmp_path / "tumor"
    shutil.copytree(runs["tumor"], other)
    tensors, header = read_tensors(other / "decoder.safetensors")
    header["shard_set"]["signature"]["encoder"]["input_size"] = 128
    write_tensors(other / "decoder.safetensors", tensors, header)
    with pytest.raises(KitsamError, match="encoder input_size is 128"):
        bundle.run(BundleConfig(runs["roi"], tmp_path / "model", other))
    assert not (tmp_path / "model").exists()
