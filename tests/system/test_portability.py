"""What Linux alone has, kitsam can do without: Windows lacks all of it, macOS some."""

import mmap
import os
import signal
import subprocess
import sys

import numpy as np
import torch

from kitsam.ct.strata import STRATA
from kitsam.shards.reader import ShardSet

# Only kitsam's own imports are refused: on Linux, libraries take what Linux has.
IMPORTS_WITHOUT_POSIX = """
import builtins, importlib, os, pkgutil, signal

absent, real = {"fcntl", "resource", "pwd", "grp", "termios"}, builtins.__import__

def refuse(name, globals=None, *rest, **options):
    if name in absent and (globals or {}).get("__name__", "").startswith("kitsam"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return real(name, globals, *rest, **options)

builtins.__import__ = refuse
for name in ("preadv", "sched_getaffinity"):
    delattr(os, name)
for name in ("SIGUSR1", "SIGUSR2"):
    delattr(signal, name)

import kitsam
names = {module.name for module in pkgutil.walk_packages(kitsam.__path__, "kitsam.")} - {"kitsam.__main__"}
for name in sorted(names):
    importlib.import_module(name)
print(len(names))
"""


def test_every_module_imports_without_what_windows_lacks():
    process = subprocess.run([sys.executable, "-c", IMPORTS_WITHOUT_POSIX], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert int(process.stdout) > 100


def test_shards_read_without_preadv_give_the_same_samples(shards, monkeypatch):
    def read():
        shard_set = ShardSet(shards)
        order = shard_set.order("natural", 16, 0, STRATA)
        return [shard_set.read(order.batch(step)) for step in range(3)]

    with_preadv = read()
    monkeypatch.delattr(os, "preadv")
    for one, other in zip(with_preadv, read()):
        assert torch.equal(one.stored, other.stored) and one.records == other.records
        assert all(map(np.array_equal, one.masks, other.masks))


def test_training_is_stopped_by_sigterm_where_there_is_no_sigusr1(monkeypatch):
    from kitsam.training import loop

    monkeypatch.delattr(signal, "SIGUSR1")
    before = signal.getsignal(signal.SIGTERM)
    with loop._stop_signals() as signals:
        signal.raise_signal(signal.SIGTERM)
        assert signals == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is before


def test_memory_is_measured_without_proc_and_without_resource(monkeypatch, tmp_path):
    from kitsam.bench import measure

    monkeypatch.setattr(measure, "_STATUS", tmp_path / "absent")
    monkeypatch.setattr(measure, "_CLEAR_REFS", tmp_path / "absent")
    monkeypatch.setattr(measure, "resource", None)
    cpu = torch.device("cpu")
    measure.reset_peak_memory(cpu)
    before = measure.peak_memory(cpu)
    # Pages of its own: an array may find room in what this process freed before.
    with mmap.mmap(-1, 50 * measure.MIB) as held:
        held.write(b"x" * len(held))
        assert measure.peak_memory(cpu) > before + len(held) // 2
    assert measure._measure(sum, ([1, 2],)).value == 3
