"""The shell files in launch/, each run as its head says."""

import os
import shutil
import signal

import pytest
import slurm
from starting import (
    LAUNCH,
    Started,
    files_of,
    finish,
    free_port,
    steps_done,
    train_arguments,
)
from tiny import EMBED_WORDS, evaluate_words, train_config
from trained import losses

from kitsam.training import loop
from kitsam.training.config import ValidationConfig


def test_a_slurm_job_at_its_end_saves_is_queued_again_and_goes_on(shards, tmp_path):
    rarely = {"checkpoint_every": 40, "validation": ValidationConfig(every=40)}
    config = train_config("tumor", shards, tmp_path / "run", steps=40, **rarely)
    metrics = config.out / "metrics.jsonl"
    path = f"{slurm.install(tmp_path / 'tools')}:{os.environ['PATH']}"
    line = ["sbatch", "--nodes=2", "launch/train.sbatch", *train_arguments(config, tmp_path)]
    with Started(line, tmp_path / "log", PATH=path, STUB_LOG=tmp_path / "asked", PORT=free_port()) as job:
        job.wait_until(lambda: metrics.exists() and metrics.read_text())
        assert sorted(job.ranks()) == [0, 1], job.text
        job.process.send_signal(signal.SIGUSR1)
        assert job.wait() == 0, job.text[-3000:]
        assert "the same command goes on from there" in job.text
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0] == "scontrol show hostnames node[1-2]" and asked[-1] == "scontrol requeue 77"
    assert asked[1].startswith("srun --kill-on-bad-exit=1 launch/multi_node.sh train")
    assert 0 < steps_done(config.out) < 40
    assert loop.run(config) == 0 and len(losses(config.out)) == 40


def test_all_processes_embed_then_every_shard_is_checked(data, shards, tmp_path):
    command = [LAUNCH / "shard_one_machine.sh", *EMBED_WORDS]
    text = finish(command, tmp_path / "log", DATA=data, SHARDS=tmp_path / "set", PROCESSES=3)
    assert "All good" in text
    assert files_of(tmp_path / "set") == files_of(shards)


@pytest.mark.slow
def test_a_bad_shard_ends_the_check_with_its_name(data, shards, tmp_path):
    copy = tmp_path / "set"
    shutil.copytree(shards, copy)
    bad = min(copy.glob("train/*.tar"))
    content = bytearray(bad.read_bytes())
    content[5000] ^= 1
    bad.write_bytes(content)
    with Started([LAUNCH / "shard_one_machine.sh", *EMBED_WORDS], tmp_path / "log", DATA=data, SHARDS=copy) as started:
        assert started.wait() == 1 and f"BAD {bad}" in started.text


@pytest.mark.slow
def test_cpu_sh_shares_the_work_of_any_command(data, shards, runs, tmp_path):
    command = [LAUNCH / "cpu.sh", "evaluate", *evaluate_words(data, shards, runs), "--out", tmp_path / "out"]
    finish(command, tmp_path / "log", PROCESSES=2)
    assert (tmp_path / "out" / "metrics.csv").exists()


def test_a_missing_variable_is_named(tmp_path):
    with Started([LAUNCH / "multi_node.sh", "train"], tmp_path / "log") as started:
        assert started.wait() == 1 and "HOST: address of the machine of rank 0" in started.text
