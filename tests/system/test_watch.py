"""Processes in step: one that waits for data keeps the others waiting, one that hangs ends them."""

import signal
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from starting import started_ranks

LIMIT = 1.0  # seconds
SCRIPT = """
import os, sys, time
from datetime import timedelta
import torch.distributed as dist
from kitsam.system.processes import start_processes
from kitsam.system.watch import Watch

start_processes("cpu")
rank = int(os.environ["RANK"])
with Watch("kitsam train", timedelta(seconds={limit})) as watch:
    for step in range(3):
        if rank == {rank} and step == 1:
            print("there", flush=True)
            {late}
        dist.barrier()
        watch.beat()
print("done")
"""
READ = "with watch.waiting(): time.sleep({seconds})"
WORK = "[(time.sleep({limit} / 5), watch.beat()) for _ in range(25)]"
HANG = "time.sleep(60)"


def start(late: str, folder: Path, rank: int = 1) -> AbstractContextManager:
    """Two processes, of which `rank` is late."""
    late = late.format(seconds=4 * LIMIT, limit=LIMIT)
    return started_ranks([sys.executable, "-c", SCRIPT.format(limit=LIMIT, late=late, rank=rank)], folder)


@pytest.mark.parametrize("late", [READ, WORK], ids=["data", "work"])
def test_a_process_that_waits_for_data_or_gets_on_ends_nobody(tmp_path, late):
    with start(late, tmp_path) as ranks:
        assert [one.wait() for one in ranks] == [0, 0], ranks[0].text
        assert "error" not in ranks[0].text + ranks[1].text


def test_processes_that_hang_end_with_a_line(tmp_path):
    with start(HANG, tmp_path) as (first, second):
        assert first.wait(20) == 1 and second.wait(20) == 1
        assert "kitsam train: error: process 0: another process has ended or does not answer" in first.text
        assert "no process got on for 1 s" in first.text


def test_a_process_that_meets_the_others_while_it_waits_for_the_disk_sees_that_one_is_silent(tmp_path):
    """As where a checkpoint is saved."""
    with start("with watch.waiting(): time.sleep(0.5), [dist.barrier() for _ in range(9)]", tmp_path, 0) as ranks:
        first, second = ranks
        first.wait_until(lambda: "there" in first.text)
        second.process.send_signal(signal.SIGSTOP)
        assert first.wait(30) == 1
        assert "nothing was heard of process 1 for 1 s" in first.text


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_process_that_is_silent_while_it_waits_for_data_is_named(tmp_path, stopped):
    """The first one keeps the store, so that nothing at all is heard without it."""
    late = READ.replace("{seconds}", "60")
    with start(late, tmp_path, stopped) as ranks:
        ranks[stopped].wait_until(lambda: "there" in ranks[stopped].text)
        time.sleep(LIMIT)  # until it has said that it waits
        ranks[stopped].process.send_signal(signal.SIGSTOP)
        other = ranks[1 - stopped]
        assert other.wait(30) == 1
        assert f"nothing was heard of process {stopped} for 1 s" in other.text
