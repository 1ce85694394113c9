"""A bundle's card: what it learned from, how well its decoders do, and that `predict` says so."""

import json
import shutil
from datetime import datetime, timezone
from pathlib import Path

import nibabel as nib
import pytest
from tiny import CASCADE, embed_config, evaluate_config, train_config

from kitsam.embedding import run as embedding
from kitsam.evaluation import evaluate
from kitsam.inference import bundle, predict
from kitsam.inference.card import RESEARCH_ONLY, line_of, line_of_checkpoint, read_bundle_header
from kitsam.inference.config import BundleConfig, CascadeConfig, PredictConfig
from kitsam.inference.predictions import PredictionRecord
from kitsam.system.errors import OptionError
from kitsam.system.seals import read_sealed
from kitsam.system.tensors import read_tensors, write_tensors
from kitsam.training import loop


@pytest.fixture(scope="module")
def results(data, shards, runs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("results") / "results"
    assert evaluate.run(evaluate_config(data, shards, runs, out)) == 0
    return out


def bundle_config(runs: dict[str, Path], out: Path, **changes) -> BundleConfig:
    return BundleConfig(**{**runs, "out": out, "cascade": CascadeConfig(**CASCADE), **changes})


def test_the_card_says_what_was_learned_from_and_what_was_measured(shards, runs, results, tmp_path, capsys):
    out = tmp_path / "model.safetensors"
    named = {"data_name": "five abdomens", "data_license": "CC0-1.0"}
    assert bundle.run(bundle_config(runs, out, metrics=results, **named)) == 0
    header = read_bundle_header(out)
    card, metrics = header.card, json.loads((results / "metrics.json").read_text())
    manifest = json.loads((shards / "manifest.json").read_text())
    assert (card.data, card.data_license, card.use) == ("five abdomens", "CC0-1.0", RESEARCH_ONLY)
    assert card.date == datetime.now(timezone.utc).date().isoformat()
    assert header.training_scans == {manifest["cases"][name]["imaging"] for name in manifest["split"]["train"]}
    (one,) = card.evaluations
    assert one.averages == metrics["summary"] and one.cases == len(manifest["split"]["val"]) and one.phantoms == 0
    assert {name: list(bounds) for name, bounds in one.intervals_95.items()} == metrics["intervals_95"]
    assert one.decoders == {"roi": 1, "tumor": 1, "cyst": 1} and {one.fingerprint} == header.fingerprints
    line = capsys.readouterr().out.splitlines()[-1]
    low, high = metrics["intervals_95"]["kidney_and_masses_Dice"]
    figure = f"kidneys with masses {metrics['summary']['kidney_and_masses_Dice']:.3f} ({low:.3f} to {high:.3f})"
    assert line == line_of(header) and figure in line
    assert line.startswith("trained on 3 cases of five abdomens, on a random encoder; Dice on 2 other cases: ")
    assert line.endswith("; for research only, not a medical device")


def test_without_an_evaluation_nothing_is_said_to_be_measured(runs, tmp_path):
    bundle.run(bundle_config(runs, tmp_path / "model"))
    assert "; how well it does was not measured; for research only" in line_of(read_bundle_header(tmp_path / "model"))


def changed(results: Path, out: Path, **settings) -> Path:
    """The same evaluation with other settings, or without them."""
    shutil.copytree(results, out)
    content = json.loads((out / "metrics.json").read_text())
    kept = {name: value for name, value in content["settings"].items() if name not in settings}
    content["settings"] = kept | {name: value for name, value in settings.items() if value is not None}
    (out / "metrics.json").write_text(json.dumps(content))
    return out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"command": "score"}, "not an evaluation of runs"),
        ({"zero_shot": True, "decoders": {}}, "not an evaluation of runs"),
        ({"decoders": None}, "does not say of which decoders: run the same `kitsam evaluate` again"),
        ({"decoders": {"roi": "0" * 64}}, "of another roi decoder than the bundle's"),
        ({"cascade": {**CASCADE, "second_look": True}}, "measured with cascade.second_look True, the bundle has False"),
        ({"cascade": {**CASCADE, "roi_threshold": 0.4}}, "measured with cascade.roi_threshold 0.4, the bundle has 0.3"),
    ],
)
def test_figures_of_something_else_are_refused(runs, results, tmp_path, settings, message):
    other = changed(results, tmp_path / "other", **settings)
    with pytest.raises(OptionError, match=f"--metrics: .*other/metrics.json: {message}"):
        bundle.run(bundle_config(runs, tmp_path / "model", metrics=other))
    assert not (tmp_path / "model").exists()


def test_an_evaluation_from_before_there_was_a_second_look_had_none(runs, results, tmp_path):
    cascade = json.loads((results / "metrics.json").read_text())["settings"]["cascade"]
    assert cascade.pop("second_look") is False
    other = changed(results, tmp_path / "other", cascade=cascade)
    assert bundle.run(bundle_config(runs, tmp_path / "model", metrics=other)) == 0


def test_a_folder_without_an_evaluation_is_refused(runs, tmp_path):
    with pytest.raises(OptionError, match="--metrics: no such file: .*metrics.json"):
        bundle.run(bundle_config(runs, tmp_path / "model", metrics=runs["roi"]))


def test_the_bundle_never_replaces_the_evaluation(runs, results):
    with pytest.raises(OptionError, match="--out: .*metrics.json would replace what was given"):
        bundle.run(bundle_config(runs, results / "metrics.json", metrics=results))


def test_folds_are_each_measured_on_the_cases_that_they_have_not_seen(data, tmp_path):
    folds = tmp_path / "folds"
    assert embedding.run(embed_config(data, folds, folds=2)) == 0
    runs, results = [tmp_path / "run-0", tmp_path / "run-1"], [tmp_path / "results-0", tmp_path / "results-1"]
    for fold in (0, 1):
        loop.run(train_config("roi", folds, runs[fold], steps=1, fold=fold))
        evaluate.run(evaluate_config(data, folds, {"roi": runs[fold]}, results[fold], fold=fold))
    bundle.run(bundle_config({"roi": runs}, tmp_path / "model", metrics=results))
    header = read_bundle_header(tmp_path / "model")
    assert [(one.fold, one.decoders) for one in header.card.evaluations] == [(0, {"roi": 1}), (1, {"roi": 1})]
    dice = sorted(one.averages["kidney_and_masses_Dice"] for one in header.card.evaluations)
    assert "; Dice in 2 evaluations of some of its decoders each: " in line_of(header)
    assert f"kidneys with masses {dice[0]:.3f} to {dice[1]:.3f}" in line_of(header)
    assert line_of(header).startswith("trained on 5 cases")  # each of them by one fold


def test_drawn_cases_are_never_taken_for_patients(data, shards, runs, tmp_path):
    drawn = shutil.copytree(data, tmp_path / "drawn")
    for path in drawn.glob("*/imaging.nii.gz"):
        image = nib.load(path)
        image.header["descrip"] = b"kitsam phantom, seed 0"
        nib.save(image, path)
    evaluate.run(evaluate_config(drawn, shards, runs, tmp_path / "results"))
    bundle.run(bundle_config(runs, tmp_path / "model", metrics=tmp_path / "results"))
    header = read_bundle_header(tmp_path / "model")
    assert header.card.evaluations[0].phantoms == 2
    assert line_of(header).startswith("trained on 3 cases, made by `kitsam phantom`, on a random encoder")


def test_predict_says_it_and_writes_it_beside_each_label_map(model, ct, tmp_path, capsys):
    assert predict.run(PredictConfig([ct], model, tmp_path / "out", device="cpu")) == 0
    line = line_of(read_bundle_header(model))
    assert f"{model}: {line}" in capsys.readouterr().out.splitlines()
    assert read_sealed(tmp_path / "out" / "case_00000.json", PredictionRecord).about_model == line
    scans = json.loads((tmp_path / "out" / "predictions.json").read_text())["scans"]
    assert scans["case_00000"]["about_model"] == line


def test_a_bundle_of_an_older_version_labels_without_a_card(model, ct, tmp_path, capsys):
    tensors, header = read_tensors(model)
    del header["card"]
    write_tensors(tmp_path / "old", tensors, header)
    assert predict.run(PredictConfig([ct], tmp_path / "old", tmp_path / "out", device="cpu")) == 0
    assert "trained on 3 cases, on a random encoder; how well it does was not measured" in capsys.readouterr().out


def test_of_a_checkpoint_it_is_said_what_its_own_decoder_does():
    sha256 = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
    assert line_of_checkpoint("lite_medsam", sha256) == (
        "outlines what a box surrounds, not trained by kitsam; its training data may hold KiTS cases; weights under "
        "Apache-2.0; for research only, not a medical device"
    )
    assert "nobody knows the license" in line_of_checkpoint("mobile_sam", "0" * 64)
