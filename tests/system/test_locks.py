"""Locks between threads and processes, and where a file system has none."""

import errno
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kitsam.system import locks
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.locks import alone, read_writer, sole_writer

HOLDER = """
import sys, time
from pathlib import Path
from kitsam.system.locks import alone, read_writer, sole_writer
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held(lock: str, path: Path) -> Iterator[subprocess.Popen]:
    """A process that holds `path` by the function `lock`."""
    script = HOLDER.replace("alone", lock)
    with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `tmp_path / "x"`."""
    with held("alone", tmp_path / "x") as process:
        yield process


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


@pytest.fixture
def writer(tmp_path):
    """A process that writes to `tmp_path / "x"`."""
    with held("sole_writer", tmp_path / "x") as process:
        yield process


def test_a_second_writer_is_refused_with_the_name_of_the_first(writer, tmp_path):
    host = socket.gethostname()
    words = rf"--out: .*x: process {writer.pid} on {host}, since 20..-"
    with pytest.raises(OptionError, match=words), sole_writer(tmp_path / "x"):
        pass
    assert read_writer(tmp_path / "x").process == writer.pid


def test_what_a_dead_writer_held_is_free(writer, tmp_path):
    writer.kill()
    writer.wait()
    with sole_writer(tmp_path / "x") as this:
        assert this.process == os.getpid() and read_writer(tmp_path / "x") == this
    assert not list((tmp_path / "x").iterdir())


def test_the_lock_of_another_machine_is_waited_for_as_long_as_it_may_have_died(writer, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locks.socket, "gethostname", lambda: "elsewhere")
    monkeypatch.setattr(locks, "LEASE", 1.0)
    began = time.monotonic()
    with pytest.raises(OptionError, match="writes there"), sole_writer(tmp_path / "x"):
        pass
    assert time.monotonic() - began >= 1 and "waiting 1 s" in capsys.readouterr().err
    monkeypatch.setattr(locks, "LEASE", 20.0)
    threading.Timer(0.5, writer.kill).start()
    with sole_writer(tmp_path / "x") as this:
        assert this.host == "elsewhere"
