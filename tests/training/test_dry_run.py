"""`kitsam train --dry-run`, what is said of a decoder that finds nothing, and the trackers that a run may have."""

import importlib.util
import json

import pytest
from tiny import train_config

from kitsam.shards.manifest import read_manifest
from kitsam.system.console import size_text
from kitsam.system.errors import OptionError
from kitsam.training import loop
from kitsam.training.config import ValidationConfig
from kitsam.training.trackers import MLFLOW_RUN


def test_a_dry_run_says_steps_bytes_memory_and_time_and_writes_nothing(shards, tmp_path, capsys):
    every = ValidationConfig(every=3)
    config = train_config("tumor", shards, tmp_path / "run", steps=9, validation=every, dry_run=True)
    assert loop.run(config) == 0
    text = capsys.readouterr().out
    manifest = read_manifest(shards)
    size, samples = sum(shard.bytes for shard in manifest.train), sum(shard.samples for shard in manifest.train)
    expected = round(9 * 4 * size / samples) + 3 * sum(shard.bytes for shard in manifest.val)
    assert "9 of 4 slices, 3 validations" in text and size_text(expected) in text
    assert "of main memory a process" in text and " s a step" in text and "Nothing was written." in text
    assert not (tmp_path / "run").exists()


def test_a_decoder_that_finds_next_to_nothing_comes_with_what_to_look_at(tmp_path):
    config = train_config("tumor", "set", tmp_path)
    poor, good = (loop.Progress(step=10, best_step=10, best_dice=dice) for dice in (0.001, 0.5))
    result, hint = loop._outcome(poor, config).splitlines()
    assert result == f"Best validation Dice 0.0010 at step 10: {tmp_path / 'decoder.safetensors'}"
    assert "kitsam fingerprint" in hint and "--start-from" in hint
    assert len(loop._outcome(good, config).splitlines()) == 1


def test_mlflow_is_refused_where_it_is_not_installed(shards, tmp_path, monkeypatch):
    monkeypatch.setattr("kitsam.training.config.find_spec", lambda name: None)
    with pytest.raises(OptionError, match="--mlflow: the package mlflow is not installed"):
        train_config("tumor", str(shards), tmp_path / "run", mlflow=True).check_places()


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed")
def test_losses_dice_and_settings_go_to_mlflow_in_one_run_for_all_starts(shards, tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    place = str(tmp_path / "mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer ones want a database, which is an extra of theirs
    config = train_config("tumor", shards, tmp_path / "run", mlflow=True)
    loop.run(config)
    loop.run(train_config("tumor", shards, tmp_path / "run", mlflow=True, steps=9))
    client = MlflowClient(place)
    (run,) = client.search_runs([client.get_experiment_by_name("kitsam").experiment_id])
    assert run.info.run_id == (config.out / MLFLOW_RUN).read_text()
    assert run.data.params["optimizer.peak_rate"] == "0.001" and run.data.params["target"] == "tumor"
    lines = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    found = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "loss")}
    assert found == pytest.approx(losses) and set(found) == set(range(1, 10))
    assert "val_dice" in run.data.metrics
