import json
import shutil
import signal

import pytest
import torch
import yaml
from safetensors.torch import save_file
from starting import Started, finish, torchrun, train_arguments
from tiny import long_config, still_config, train_config
from trained import assert_same_run, break_at, lines, same_bits

from kitsam.decoding.runs import load_run
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.tensors import read_tensors, write_tensors
from kitsam.training import config, loop, step
from kitsam.training.checkpoint import checkpoints
from kitsam.training.config import OptimizerConfig, ValidationConfig

# Of a process that is to come to the same bits as this one.
THREADS = {"OMP_NUM_THREADS": torch.get_num_threads()}


def test_a_run_leaves_config_curves_checkpoints_and_the_best_decoder(runs):
    run = runs["tumor"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["target"] == "tumor" and config["optimizer"]["weight_decay"] == 0.1 and config["steps"] == 6
    found = lines(run)
    assert [line["step"] for line in found if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in found if "val_dice" in line] == [3, 6]
    assert sum(found[0]["drawn"].values()) == 4
    assert [path.name for path in checkpoints(run)] == ["step-000004", "step-000006"]
    assert list(run.glob("**/events.out.tfevents.*"))
    assert load_run(run, "tumor").prompt.jitter == 0.1


def test_the_class_weight_comes_from_the_data(shards, tmp_path, capsys):
    loop.run(train_config("tumor", shards, tmp_path / "run", steps=1))
    text = capsys.readouterr().out
    voxels = json.loads((shards / "manifest.json").read_text())["voxels"]
    ratio = (voxels[1] + voxels[3]) / voxels[2]
    assert f"{ratio:.1f} negative voxels per positive one; positive pixels weigh {ratio**0.5:.2f}" in text


def test_the_roi_decoder_fits_the_slices_it_sees(shards, tmp_path, device):
    options = {"batch_size": 8, "validation": ValidationConfig(every=80), "checkpoint_every": 80, "device": device.type}
    loop.run(train_config("roi", shards, tmp_path / "run", steps=80, **options))
    curve = [line["dice_loss"] for line in lines(tmp_path / "run") if "dice_loss" in line]
    assert curve[-1] < 0.35 < curve[0]


@pytest.mark.parametrize("step", [3, 5])
def test_a_run_cut_short_goes_on_to_the_same_bits(shards, runs, tmp_path, step):
    run = tmp_path / "run"
    config = train_config("tumor", shards, run)
    with break_at(step):
        loop.run(config)
    assert loop.run(config) == 0
    assert lines(run) == lines(runs["tumor"])
    assert same_bits(run, runs["tumor"])


def test_a_line_that_a_full_disk_cut_short_is_written_anew(shards, runs, tmp_path):
    run = tmp_path / "run"
    config = train_config("tumor", shards, run)
    with break_at(5):
        loop.run(config)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "lo')
    assert loop.run(config) == 0
    assert lines(run) == lines(runs["tumor"])


def test_weights_and_biases_must_be_installed_to_be_asked_for(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match="--wandb: the package wandb is not installed"):
        loop.run(train_config("tumor", shards, tmp_path / "run", wandb=True))


def test_killed_and_started_again_gives_the_same_decoder(shards, runs, tmp_path):
    config = train_config("cyst", shards, tmp_path / "run")
    with Started(["kitsam", *train_arguments(config, tmp_path)], tmp_path / "log", **THREADS) as started:
        started.wait_until(lambda: checkpoints(config.out))
        started.process.send_signal(signal.SIGKILL)
        assert started.wait() == -signal.SIGKILL
    loop.run(config)
    assert lines(config.out) == lines(runs["cyst"])
    assert same_bits(config.out, runs["cyst"])


def test_a_signal_saves_and_ends_cleanly_and_the_run_goes_on(shards, long_run, tmp_path):
    config = long_config(shards, tmp_path / "run", checkpoint_every=100)
    metrics = config.out / "metrics.jsonl"
    with Started(["kitsam", *train_arguments(config, tmp_path)], tmp_path / "log", **THREADS) as started:
        started.wait_until(lambda: metrics.exists() and metrics.read_text())
        started.process.send_signal(signal.SIGUSR1)
        assert started.wait() == 0 and "the same command goes on" in started.text
    assert len(checkpoints(config.out)) == 1 and not (config.out / "decoder.safetensors").exists()
    loop.run(config)
    assert same_bits(config.out, long_run)


def test_two_processes_train_to_the_same_decoder(pair, runs):
    assert_same_run(pair.run, runs["tumor"])


@pytest.mark.slow
def test_four_processes_train_to_the_same_decoder(shards, runs, tmp_path):
    config = train_config("tumor", shards, tmp_path / "run")
    finish(torchrun(4, *train_arguments(config, tmp_path)), tmp_path / "log")
    assert_same_run(config.out, runs["tumor"])


def test_a_run_goes_on_with_another_number_of_processes(pair, runs):
    assert_same_run(pair.continued_run, runs["tumor"])


def test_two_processes_share_the_cases_of_a_validation_and_find_the_same_dice(pair, still_run):
    ours, theirs = (lines(run)[-1] for run in (pair.still_run, still_run))
    assert ours == theirs
    # Of one case, the two would be equal: the cases differ, and none is left out.
    assert ours["val_dice"] != ours["val_dice_pooled"] > 0


@pytest.fixture(scope="module")
def still_run(shards, runs, tmp_path_factory):
    """A step of one process at rate 0 from the ROI decoder."""
    config = still_config(shards, runs, tmp_path_factory.mktemp("still") / "run")
    loop.run(config)
    return config.out


def test_a_lesion_decoder_can_start_from_the_roi_decoder(runs, still_run):
    assert same_bits(still_run, runs["roi"])


@pytest.mark.parametrize(("target", "start"), [("roi", "cyst"), ("tumor", "tumor")])
def test_any_decoder_can_start_from_any(shards, runs, tmp_path, target, start):
    still = OptimizerConfig(peak_rate=0.0, warmup_steps=0)
    run = tmp_path / "run"
    loop.run(train_config(target, shards, run, steps=1, optimizer=still, start_from=runs[start]))
    assert same_bits(run, runs[start]) and load_run(run, target).shard_set.train


def test_a_start_on_embeddings_of_another_encoder_is_refused_by_name(shards, runs, tmp_path):
    start = shutil.copytree(runs["cyst"], tmp_path / "start")
    tensors, header = read_tensors(start / "decoder.safetensors")
    header["shard_set"]["signature"]["input"]["window"] = [-100.0, 240.0]
    write_tensors(start / "decoder.safetensors", tensors, header)
    with pytest.raises(OptionError, match="input window is .*start/decoder.safetensors was trained with"):
        loop.run(train_config("tumor", shards, tmp_path / "run", start_from=start))


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
    still = OptimizerConfig(peak_rate=0.0, warmup_steps=0)
    patient = ValidationConfig(every=1, patience=2)
    loop.run(train_config("tumor", shards, tmp_path / "run", steps=50, optimizer=still, validation=patient))
    assert lines(tmp_path / "run")[-1]["step"] == 3


def test_a_loss_that_is_not_finite_ends_the_run_and_names_its_samples(shards, tmp_path, monkeypatch):
    original = step.box_losses

    def breaks(logits, *rest):
        return original(logits * float("nan"), *rest)

    monkeypatch.setattr(step, "box_losses", breaks)
    with pytest.raises(KitsamError, match="loss of step 0 is not finite"):
        loop.run(train_config("tumor", shards, tmp_path / "run"))
    saved = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    assert saved["step"] == 0 and len(saved["keys"]) == 4 and all(key.startswith("case_") for key in saved["keys"])
    assert not checkpoints(tmp_path / "run")


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
