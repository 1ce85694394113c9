"""The number format of a run: measured once where it is left open, and kept by the run."""

import pytest
import torch
import yaml
from tiny import train_config

from kitsam.sam.decoder import random_decoder
from kitsam.system.errors import OptionError
from kitsam.training import loop, precision
from kitsam.training.precision import run_format

CPU = torch.device("cpu")


@pytest.fixture
def measure(monkeypatch):
    """What was measured: its repeats, after the work was done once in each format."""
    found = []

    def faster_format(work, repeats, device, unit):
        work(False), work(True)
        found.append(repeats)
        return "bf16"

    monkeypatch.setattr(precision, "faster_format", faster_format)
    return found


def test_a_new_run_takes_what_is_faster_and_an_old_one_what_it_took(tmp_path, shards, measure):
    config = train_config("tumor", shards, tmp_path, steps=100, batch_size=16)
    decoder = random_decoder(4, 64, 0)
    weights = {name: weight.clone() for name, weight in decoder.state_dict().items()}
    assert run_format(config, decoder, CPU, 1) == "bf16"
    assert measure == [200.0]  # halves of a step
    assert all(torch.equal(weight, weights[name]) for name, weight in decoder.state_dict().items())
    assert all(weight.grad is None for weight in decoder.parameters())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"precision": "fp32"}))
    assert run_format(config, decoder, CPU, 1) == "fp32" and len(measure) == 1


def test_a_run_says_which_format_it_took_and_goes_on_with_no_other(tmp_path, shards):
    config = train_config("tumor", shards, tmp_path / "run", steps=1)
    assert loop.run(config) == 0
    path = config.out / "config.yaml"
    assert yaml.safe_load(path.read_text())["precision"] == "fp32"
    assert loop.run(config) == 0
    assert loop.run(train_config("tumor", shards, config.out, steps=1, precision="fp32")) == 0
    # An older version kept what was asked for.
    path.write_text(path.read_text().replace("precision: fp32", "precision: auto"))
    assert loop.run(config) == 0
    path.write_text(path.read_text().replace("precision: fp32", "precision: bf16"))
    with pytest.raises(OptionError, match="--precision: .* with bf16, not fp32"):
        loop.run(train_config("tumor", shards, config.out, steps=1, precision="fp32"))


def test_runs_of_one_process_may_have_different_formats(tmp_path, shards):
    for number, word in enumerate(("fp32", "bf16", "fp32")):
        run = tmp_path / str(number)
        assert loop.run(train_config("tumor", shards, run, steps=1, precision=word)) == 0
        assert yaml.safe_load((run / "config.yaml").read_text())["precision"] == word
