"""A run with more steps than it was begun with: it goes on, and to the same bits however it is broken off."""

import shutil

import pytest
import yaml
from tiny import train_config
from trained import break_at, lines, losses, same_bits

from kitsam.system.errors import OptionError
from kitsam.training import loop
from kitsam.training.checkpoint import checkpoints
from kitsam.training.config import OptimizerConfig, ValidationConfig
from kitsam.training.schedule import learning_rate

LONGER = 11  # steps; of the runs to be prolonged 6


@pytest.fixture(scope="module")
def prolonged(shards, runs, tmp_path_factory):
    """A finished run of the tumor decoder, prolonged without being disturbed."""
    run = shutil.copytree(runs["tumor"], tmp_path_factory.mktemp("prolonged") / "run")
    assert loop.run(train_config("tumor", shards, run, steps=LONGER)) == 0
    return run


def test_a_finished_run_goes_on_with_another_half_cosine(prolonged, runs):
    optimizer = train_config("tumor", "", prolonged).optimizer
    found = [line for line in lines(prolonged) if "loss" in line]
    assert [line["step"] for line in found] == list(range(1, LONGER + 1))
    assert losses(prolonged)[:6] == losses(runs["tumor"])
    rates = [learning_rate(step, [6, LONGER], optimizer) for step in range(LONGER)]
    assert [line["learning_rate"] for line in found] == rates and rates[6] == optimizer.peak_rate
    assert checkpoints(prolonged)[-1].name == f"step-{LONGER:06d}"
    assert yaml.safe_load((prolonged / "config.yaml").read_text())["steps"] == LONGER


@pytest.mark.parametrize("step", [7, 9])
def test_a_prolonged_run_cut_short_goes_on_to_the_same_bits(prolonged, shards, runs, tmp_path, step):
    run = shutil.copytree(runs["tumor"], tmp_path / "run")
    config = train_config("tumor", shards, run, steps=LONGER)
    with break_at(step):
        loop.run(config)
    assert loop.run(config) == 0
    assert lines(run) == lines(prolonged) and same_bits(run, prolonged)


def test_prolonged_before_its_end_a_run_comes_to_the_same_bits(prolonged, shards, tmp_path):
    run = tmp_path / "run"
    with break_at(5):
        loop.run(train_config("tumor", shards, run))
    assert loop.run(train_config("tumor", shards, run, steps=LONGER)) == 0
    assert lines(run) == lines(prolonged) and same_bits(run, prolonged)


def test_prolonging_is_said_once_and_then_the_run_is_finished(shards, runs, tmp_path, capsys):
    run = shutil.copytree(runs["cyst"], tmp_path / "run")
    config = train_config("cyst", shards, run, steps=7)
    loop.run(config)
    assert capsys.readouterr().out.count("Prolonged from 6 to 7 steps: over the added ones the learning rate") == 1
    loop.run(config)
    text = capsys.readouterr().out
    assert "Prolonged" not in text and "The run is finished, step 7" in text


def test_an_end_that_nothing_was_done_for_is_replaced(prolonged, shards, runs, tmp_path):
    run = shutil.copytree(runs["tumor"], tmp_path / "run")
    with break_at(6):
        loop.run(train_config("tumor", shards, run, steps=8))
    assert loop.run(train_config("tumor", shards, run, steps=LONGER)) == 0
    assert lines(run) == lines(prolonged) and same_bits(run, prolonged)


@pytest.mark.parametrize("steps", [3, 5])
def test_fewer_steps_are_refused_and_change_nothing(shards, runs, tmp_path, steps):
    run = shutil.copytree(runs["roi"], tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(OptionError, match=f"--steps: .* holds a run of 6 steps, 6 of them done: .* not cut to {steps}"):
        loop.run(train_config("roi", shards, run, steps=steps))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name[0] != "."} == {
        path: content for path, content in before.items() if path.name[0] != "."
    }


def test_a_run_that_patience_ended_can_be_prolonged(shards, tmp_path):
    still = OptimizerConfig(peak_rate=0.0, warmup_steps=0)
    patient = ValidationConfig(every=1, patience=2)
    options = {"optimizer": still, "validation": patient}
    loop.run(train_config("tumor", shards, tmp_path / "run", steps=8, **options))
    assert lines(tmp_path / "run")[-1]["step"] == 3
    for _ in range(2):
        loop.run(train_config("tumor", shards, tmp_path / "run", steps=9, **options))
        assert lines(tmp_path / "run")[-1]["step"] == 5
