"""What Linux alone has, kitsam can do without: Windows lacks all of it, macOS some."""

import mmap
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from kitsam.ct.strata import STRATA
from kitsam.shards.reader import ShardSet
from kitsam.system.errors import OptionError
from kitsam.system.processes import find_device, use_bfloat16

# Only kitsam's own imports are refused: on Linux, libraries take what Linux has.
WITHOUT_POSIX = """
import builtins, importlib, os, pkgutil, signal, sys

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
"""
IMPORTS = """
import kitsam
names = {module.name for module in pkgutil.walk_packages(kitsam.__path__, "kitsam.")} - {"kitsam.__main__"}
for name in sorted(names):
    importlib.import_module(name)
print(len(names))
"""


def test_every_module_imports_without_what_windows_lacks():
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX + IMPORTS], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert int(process.stdout) > 100


# From scans to label maps. What libraries take of Linux they have when it is taken away.
COMMANDS = (
    """
import ctypes, torch, accelerate, webdataset, filelock, psutil, cc3d, scipy.ndimage, matplotlib.pyplot
"""
    + WITHOUT_POSIX
    + """
from pathlib import Path
from kitsam.cli import main

def no_prctl(*words):
    raise AssertionError("prctl is of Linux")

if __name__ == "__main__":
    sys.platform = "darwin"
    ctypes.CDLL = no_prctl
    os.environ["TORCHELASTIC_RUN_ID"] = "one"
    for line in Path(sys.argv[1]).read_text().splitlines():
        assert main(line.split()) == 0, line
"""
)
LINES = """\
embed --data {data} --out set --encoder.name tiny --encoder.input-size 64 --val-fraction 0.4 --device cpu
shards verify set
train --target roi --shards set --out roi --steps 2 --batch-size 4 --optimizer.warmup-steps 1 --device cpu
evaluate --shards set --data {data} --roi roi --out results --device cpu --workers 1
bundle --roi roi --out model.safetensors
predict {data}/case_00000 --model model.safetensors --out labels --device cpu
"""


def test_a_scan_is_embedded_trained_on_and_labelled_without_what_windows_lacks(data, tmp_path):
    (tmp_path / "lines").write_text(LINES.format(data=data))
    program = tmp_path / "program.py"  # a file, which the workers of `evaluate` import
    program.write_text(COMMANDS)
    ended = subprocess.run(
        [sys.executable, program, "lines"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=500
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert (tmp_path / "labels" / "case_00000.nii.gz").is_file() and (tmp_path / "results" / "metrics.csv").is_file()


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


def test_a_gpu_can_be_named_by_its_number(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert find_device("cuda:1") == torch.device("cuda:1") == taken[0]
    with pytest.raises(OptionError, match="--device: cuda:2 was asked for, but the last of 2 GPUs is cuda:1"):
        find_device("cuda:2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(OptionError, match="cuda:1 is for one process"):
        find_device("cuda:1")


def test_auto_takes_cuda_then_apples_gpu_then_the_processor(monkeypatch):
    present = {"cuda": False, "mps": False}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present["cuda"])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: present["mps"])
    assert find_device("auto").type == "cpu"
    with pytest.raises(OptionError, match="--device: mps was asked for"):
        find_device("mps")
    present["mps"] = True
    assert find_device("auto").type == find_device("mps").type == "mps"
    assert not use_bfloat16("auto", find_device("mps"))
    present["cuda"] = True
    assert find_device("auto").type == "cuda"
