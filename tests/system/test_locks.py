"""Locks between threads and processes, and where a file system has none."""

import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from kitsam.system import locks
from kitsam.system.errors import KitsamError
from kitsam.system.locks import alone

HOLDER = """
import sys, time
from pathlib import Path
from kitsam.system.locks import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `tmp_path / "x"`."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / "x"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_threads_of_one_process_exclude_one_another(tmp_path):
    inside, most = [], []

    def work() -> None:
        with alone(tmp_path / "x"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_one_that_waits_says_so_once_and_a_killed_holder_holds_nothing(tmp_path, holder, capsys):
    threading.Timer(0.5, holder.kill).start()
    began = time.monotonic()
    with alone(tmp_path / "x", "another process is fetching it, waiting"):
        assert 0.2 < time.monotonic() - began < 10
    assert capsys.readouterr().err == f"warning: {tmp_path / 'x'}: another process is fetching it, waiting\n"


def test_nothing_is_said_without_a_wait_or_without_words(tmp_path, holder, capsys):
    with alone(tmp_path / "y", "waiting"):
        pass
    threading.Timer(0.2, holder.kill).start()
    with alone(tmp_path / "x"):
        pass
    assert capsys.readouterr().err == ""


def test_an_error_in_the_block_gives_the_lock_back_and_is_not_taken_for_the_locks_own(tmp_path):
    with pytest.raises(OSError, match="mine"), alone(tmp_path / "x"):
        raise OSError(errno.ENOLCK, "mine")
    with alone(tmp_path / "x"):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_of_once_and_used(tmp_path, monkeypatch, capsys, number):
    import fcntl

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    entered = 0
    for name in "xy":
        with alone(tmp_path / name):
            entered += 1
    lines = capsys.readouterr().err.splitlines()
    assert entered == 2 and len(lines) == 1
    assert str(tmp_path) in lines[0] and "no locks" in lines[0]


def test_a_lock_file_that_cannot_be_written_is_one_line_naming_it(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(KitsamError, match=r"\.x\.lock: cannot be locked: [^\n]+$"), alone(tmp_path / "file" / "x"):
        pass

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(locks.FileLock, "acquire", refuse)
    with pytest.raises(KitsamError, match=r"\.x\.lock: cannot be locked: Permission denied$"), alone(tmp_path / "x"):
        pass
