import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny import train_config

from kitsam.decoding.runs import load_run
from kitsam.system.errors import KitsamError, OptionError
from kitsam.training import config, log, loop, step
from kitsam.training.checkpoint import saved_checkpoints

ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def config_file(config, folder: Path) -> Path:
    from kitsam.system.options import as_plain

    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(as_plain(config)))
    return path


def losses(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "slices_per_second"} for line in lines]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "decoder.safetensors")


def same(first: dict, second: dict) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_leaves_config_curves_checkpoints_and_the_best_decoder(runs):
    run = runs["tumor"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["target"] == "tumor" and config["optimizer"]["weight_decay"] == 0.1 and config["steps"] == 6
    lines = losses(run)
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines if "val_dice" in line] == [3, 6]
    assert sum(lines[0]["drawn"].values()) == 4
    assert [path.name for path in saved_checkpoints(run)] == ["step-000004", "step-000006"]
    assert list(run.glob("**/events.out.tfevents.*"))
    assert load_run(run, "tumor").prompt.jitter == 0.1


def test_the_class_weight_comes_from_the_data(shards, tmp_path, capsys):
    loop.run(train_config("tumor", shards, tmp_path / "run", steps=1))
    text = capsys.readouterr().out
    voxels = json.loads((shards / "manifest.json").read_text())["voxels"]
    ratio = (voxels[1] + voxels[3]) / voxels[2]
    assert f"{ratio:.1f} negative voxels per positive one; positive pixels weigh {ratio**0.5:.2f}" in text


def test_the_roi_decoder_fits_the_slices_it_sees(shards, tmp_path):
    loop.run(train_config("roi", shards, tmp_path / "run", steps=80, batch_size=8, validation=loop_validation(80)))
    lines = [line for line in losses(tmp_path / "run") if "dice_loss" in line]
    assert lines[-1]["dice_loss"] < 0.35 < lines[0]["dice_loss"]


def loop_validation(every: int):
    from kitsam.training.config import ValidationConfig

    return ValidationConfig(every=every)


@pytest.mark.parametrize("step", [3, 5])
def test_a_run_cut_short_goes_on_to_the_same_bits(shards, runs, tmp_path, step, monkeypatch):
    run = tmp_path / "run"
    config = train_config("tumor", shards, run)
    with monkeypatch.context() as patch:
        patch.setattr(log, "learning_rate", dies_at(step))
        with pytest.raises(RuntimeError, match="power cut"):
            loop.run(config)
    assert loop.run(config) == 0
    assert losses(run) == losses(runs["tumor"])
    assert same(weights(run), weights(runs["tumor"]))


def test_a_line_that_a_full_disk_cut_short_is_written_anew(shards, runs, tmp_path, monkeypatch):
    run = tmp_path / "run"
    config = train_config("tumor", shards, run)
    with monkeypatch.context() as patch:
        patch.setattr(log, "learning_rate", dies_at(5))
        with pytest.raises(RuntimeError, match="power cut"):
            loop.run(config)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "lo')
    assert loop.run(config) == 0
    assert losses(run) == losses(runs["tumor"])


def test_weights_and_biases_must_be_installed_to_be_asked_for(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match="--wandb: the package wandb is not installed"):
        loop.run(train_config("tumor", shards, tmp_path / "run", wandb=True))


def test_killed_and_started_again_gives_the_same_decoder(shards, tmp_path):
    command = [sys.executable, "-m", "kitsam", "train", "--shards", str(shards), "--config"]
    for name in ("whole", "killed"):
        config = train_config("cyst", shards, tmp_path / name, steps=12)
        run = [*command, str(config_file(config, tmp_path)), "--out", str(tmp_path / name)]
        if name == "killed":
            process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while len(saved_checkpoints(tmp_path / name)) < 2 and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=240)
    assert losses(tmp_path / "whole") == losses(tmp_path / "killed")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))


def test_a_signal_saves_and_ends_cleanly_and_the_run_goes_on(shards, tmp_path):
    config = train_config(
        "tumor", shards, tmp_path / "run", steps=40, checkpoint_every=40, validation=loop_validation(40)
    )
    command = [sys.executable, "-m", "kitsam", "train", "--config", str(config_file(config, tmp_path))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text()) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR1)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "the same command goes on" in text
    assert len(saved_checkpoints(tmp_path / "run")) == 1 and not (tmp_path / "run" / "decoder.safetensors").exists()
    assert loop.run(config) == 0
    unbroken = train_config(
        "tumor", shards, tmp_path / "unbroken", steps=40, checkpoint_every=40, validation=loop_validation(40)
    )
    loop.run(unbroken)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "unbroken"))


def train_with(processes: int, config, folder: Path) -> None:
    command = ["torchrun", "--standalone", f"--nproc_per_node={processes}", "-m", "kitsam", "train", "--config"]
    subprocess.run([*command, str(config_file(config, folder))], check=True, env=ENVIRONMENT, timeout=240)


def assert_same_within_rounding(run: Path, one_process: Path) -> None:
    ours, theirs = losses(run), losses(one_process)
    assert [line.get("drawn") for line in ours] == [line.get("drawn") for line in theirs]
    assert [line["loss"] for line in ours if "loss" in line] == pytest.approx(
        [line["loss"] for line in theirs if "loss" in line], rel=1e-3
    )
    first, second = weights(run), weights(one_process)
    # AdamW turns gradients near zero into whole steps, so single weights may differ by some of them.
    assert all(torch.allclose(first[name], second[name], atol=2e-3) for name in first)


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_train_to_the_same_decoder(shards, runs, tmp_path, processes):
    config = train_config("tumor", shards, tmp_path / "run")
    train_with(processes, config, tmp_path)
    assert_same_within_rounding(config.out, runs["tumor"])


def test_a_run_goes_on_with_another_number_of_processes(shards, runs, tmp_path, monkeypatch):
    config = train_config("tumor", shards, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(log, "learning_rate", dies_at(3))
        with pytest.raises(RuntimeError, match="power cut"):
            loop.run(config)
    train_with(4, config, tmp_path)
    assert_same_within_rounding(config.out, runs["tumor"])


def dies_at(step: int):
    original = log.learning_rate

    def rate(current, *rest):
        if current == step:
            raise RuntimeError("power cut")
        return original(current, *rest)

    return rate


def test_a_lesion_decoder_can_start_from_the_roi_decoder(shards, runs, tmp_path):
    from kitsam.training.config import OptimizerConfig

    still = OptimizerConfig(peak_rate=0.0, warmup_steps=0)
    config = train_config("tumor", shards, tmp_path / "run", steps=1, optimizer=still, start_from=runs["roi"])
    loop.run(config)
    assert same(weights(tmp_path / "run"), weights(runs["roi"]))
    with pytest.raises(OptionError, match="--start_from: .* is a run of the cyst decoder"):
        loop.run(train_config("tumor", shards, tmp_path / "other", start_from=runs["cyst"]))


def test_a_finished_run_says_so_and_does_nothing(runs, shards, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(runs["roi"], run)
    before = (run / "decoder.safetensors").stat().st_mtime_ns
    assert loop.run(train_config("roi", shards, run)) == 0
    assert "finished" in capsys.readouterr().out and (run / "decoder.safetensors").stat().st_mtime_ns == before


def test_another_config_in_the_same_folder_is_refused(runs, shards, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["roi"], run)
    with pytest.raises(OptionError, match="--seed: .* holds a run with 0, not 5"):
        loop.run(train_config("roi", shards, run, seed=5))


def test_patience_ends_a_run_that_gets_no_better(shards, tmp_path):
    from kitsam.training.config import OptimizerConfig, ValidationConfig

    still = OptimizerConfig(peak_rate=0.0, warmup_steps=0)
    loop.run(
        train_config(
            "tumor",
            shards,
            tmp_path / "run",
            steps=50,
            optimizer=still,
            validation=ValidationConfig(every=1, patience=2),
        )
    )
    assert losses(tmp_path / "run")[-1]["step"] == 3


def test_a_loss_that_is_not_finite_ends_the_run_and_names_its_samples(shards, tmp_path, monkeypatch):
    original = step.box_losses

    def breaks(logits, *rest):
        return original(logits * float("nan"), *rest)

    monkeypatch.setattr(step, "box_losses", breaks)
    with pytest.raises(KitsamError, match="loss of step 0 is not finite"):
        loop.run(train_config("tumor", shards, tmp_path / "run"))
    saved = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    assert saved["step"] == 0 and len(saved["keys"]) == 4 and all(key.startswith("case_") for key in saved["keys"])
    assert not saved_checkpoints(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "--batch_size"),
        ({"steps": 0}, "--steps"),
        ({"accumulate": 0}, "--accumulate"),
        ({"quotas": {"background": 1}}, "--quotas: unknown stratum background"),
        ({"init": "checkpoint"}, "--init"),
    ],
)
def test_options_that_cannot_be_met_are_refused_by_name(shards, tmp_path, changes, message):
    with pytest.raises(OptionError, match=message):
        loop.run(train_config("tumor", shards, tmp_path / "run", **changes))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_damaged_decoder_is_refused_by_name(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["roi"], run)
    (run / "decoder.safetensors").write_bytes(b"no tensors")
    with pytest.raises(KitsamError, match="decoder.safetensors: cannot be read as safetensors"):
        load_run(run, "roi")
    save_file({"mask_decoder.iou_token.weight": torch.zeros(1, 256)}, run / "decoder.safetensors")
    with pytest.raises(KitsamError, match="decoder.safetensors: not the weights"):
        load_run(run, "roi")
    with pytest.raises(OptionError, match="--tumor: .* is a run of the roi decoder"):
        load_run(run, "tumor")
