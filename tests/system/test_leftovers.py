"""Temporary files: whose they are, and which of them a later command removes."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kitsam.system import files
from kitsam.system.files import complete_or_absent, remove_leftovers, temporary_name


@pytest.fixture(autouse=True)
def host(monkeypatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu-07.Kïel/lab")


@pytest.fixture
def ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def left(folder: Path, name: str, age: float = 0.0) -> Path:
    path = folder / name
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_a_temporary_name_tells_machine_and_process_and_keeps_the_ending(tmp_path):
    with complete_or_absent(tmp_path / "a-b.nii.gz") as temporary:
        assert temporary.name == f".tmp-gpu_07.K_el_lab-{os.getpid()}-a-b.nii.gz"


def test_what_a_dead_process_of_this_machine_left_goes_at_once(tmp_path, ended):
    path = left(tmp_path, f".tmp-gpu_07.K_el_lab-{ended}-a.tar")
    remove_leftovers(tmp_path)
    assert not path.exists()


def test_what_a_process_still_writes_stays(tmp_path):
    path = left(tmp_path, f".tmp-gpu_07.K_el_lab-{os.getppid()}-a.tar", age=2 * files.ABANDONED)
    remove_leftovers(tmp_path)
    assert path.exists()


def test_own_names_stay_while_they_are_in_use_and_an_earlier_process_of_the_same_number_is_dead(tmp_path):
    earlier = left(tmp_path, f".tmp-gpu_07.K_el_lab-{os.getpid()}-a.tar")
    with temporary_name(tmp_path / "b.tar") as own:
        growing = left(tmp_path, f"{own.name}.part")
        own.write_bytes(b"half")
        remove_leftovers(tmp_path)
        assert own.exists() and growing.exists() and not earlier.exists()
    assert not own.exists()


@pytest.mark.parametrize("name", [".tmp-other-1-a.tar", ".tmp-1-a.tar", ".tmp-1-2-a.tar"])
def test_what_names_no_process_of_this_machine_goes_when_a_day_old(tmp_path, name):
    path = left(tmp_path, name, age=files.ABANDONED - 60)
    remove_leftovers(tmp_path)
    assert path.exists()
    left(tmp_path, name, age=files.ABANDONED + 60)
    remove_leftovers(tmp_path)
    assert not path.exists()


def test_only_what_matches_is_looked_at(tmp_path, ended):
    (tmp_path / "train").mkdir()
    inside = left(tmp_path / "train", f".tmp-gpu_07.K_el_lab-{ended}-a.tar")
    beside = left(tmp_path, f".tmp-gpu_07.K_el_lab-{ended}-a.tar")
    remove_leftovers(tmp_path, "*/.tmp-*")
    assert beside.exists() and not inside.exists()
