"""A process that dies or hangs ends the others, and the run goes on."""

import signal
import time
from pathlib import Path

import pytest
from starting import (
    LAUNCH,
    Started,
    descendants,
    end,
    one_machine,
    started_ranks,
    steps_done,
    torchrun,
    train_arguments,
)
from tiny import long_config
from trained import assert_same_run

from kitsam.training.config import ValidationConfig


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_hangs_ends_the_other_with_one_line(shards, tmp_path, number):
    endless = ValidationConfig(every=10000)
    config = long_config(shards, tmp_path / "run", steps=10000, validation=endless, step_timeout=2)
    command = ["kitsam", *train_arguments(config, tmp_path)]
    with started_ranks(command, tmp_path) as (first, second):
        first.wait_until(lambda: steps_done(config.out) >= 2)
        second.process.send_signal(number)
        assert first.wait(20) == 1
        assert "kitsam train: error: process 0: another process has ended or does not answer" in first.text
        assert "Traceback" not in first.text


def test_a_run_that_lost_a_process_goes_on_by_itself_to_the_same_decoder(shards, long_run, tmp_path):
    config = long_config(shards, tmp_path / "run")
    command = [LAUNCH / "multi_node.sh", *train_arguments(config, tmp_path)]
    with Started(command, tmp_path / "log", **one_machine(2, restarts=2)) as started:
        started.wait_until(lambda: steps_done(config.out) >= 6)
        end(started.ranks()[1], signal.SIGKILL)
        assert started.wait() == 0, started.text[-3000:]
        assert "Going on after step" in started.text
    assert_same_run(config.out, long_run)


@pytest.mark.slow
def test_processes_end_with_their_launcher(shards, tmp_path):
    config = long_config(shards, tmp_path / "run")
    with Started(torchrun(2, *train_arguments(config, tmp_path, steps=10000)), tmp_path / "log") as started:
        started.wait_until(lambda: steps_done(config.out) >= 2)
        ranks = started.ranks()
        assert len(ranks) == 2 and set(ranks.values()) <= set(descendants(started.process.pid))
        end(started.process.pid, signal.SIGKILL)
        started.wait()
        assert all(ended(pid) for pid in ranks.values())


def ended(pid: int) -> bool:
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}").exists()
