"""One process or thread at a time: for what several want to write, and for the folder that a command writes to.

`filelock` takes the lock of the operating system, on Linux, macOS and Windows. It goes with its holder, however
that ends, and binds the processes of all machines that share the folder. A file system without locks (some network
mounts) is warned of once and then used without: the work itself is complete or absent, so that two who do it at once
do it twice, no more.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from kitsam.system.console import warn
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import write_json
from kitsam.system.records import read_record

LOCK, WRITER = ".lock", ".writer.json"  # in a folder with one writer at a time
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def alone(path: Path, waiting: str = "") -> Iterator[None]:
    """Others that want `path` wait until this block ends. `waiting`: what is said, once, when this one waits.

    Raises `KitsamError` when the lock file cannot be written.
    """
    lock = path.with_name(f".{path.name}.lock")
    with ExitStack() as stack:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_held(lock, f"{path}: {waiting}" if waiting else ""))
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise KitsamError(f"{lock}: cannot be locked: {error.strerror or error}") from error
            _warn_of_no_locks(lock.parent)
        yield


def _held(lock: Path, notice: str) -> AbstractContextManager:
    # A lock that is nothing but a file, filelock's own substitute, stays for ever when its holder is killed.
    file_lock = FileLock(lock, fallback_to_soft=False)
    try:
        return file_lock.acquire(blocking=False)
    except Timeout:
        if notice:
            warn(notice)
        return file_lock.acquire()


@cache
def _warn_of_no_locks(folder: Path) -> None:
    warn(f"{folder}: this file system has no locks, do not run the command twice at once")


# Seconds. A file server takes back the locks of a machine that has died after the lease of NFSv4, 90 s on Linux.
LEASE = 120.0


@dataclass(frozen=True)
class Writer:
    """Who writes to a folder, kept in its `.writer.json` while that lasts."""

    host: str
    process: int
    since: str  # date and time, UTC

    @classmethod
    def this(cls) -> "Writer":
        now = datetime.now(timezone.utc).isoformat(sep=" ", timespec="microseconds")
        return cls(socket.gethostname(), os.getpid(), now)


@contextmanager
def sole_writer(out: Path) -> Iterator[Writer]:
    """Refuse other commands that would write to the folder `out` until this block ends.

    A dead process holds no lock: what it leaves is taken over, from a machine that died once the file server knows.
    Raises `OptionError` naming the process that writes there, `KitsamError` when `out` cannot be written.
    """
    lock, record = out / LOCK, out / WRITER
    with ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_held_alone(lock, out))
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise KitsamError(f"{lock}: cannot be locked: {error.strerror or error}") from error
            _warn_of_no_locks(out)
        writer = Writer.this()
        write_json(record, asdict(writer))
        try:
            yield writer
        finally:
            record.unlink(missing_ok=True)
            # Still held: who waits for a file that is gone opens the new one. Windows keeps it.
            with suppress(PermissionError):
                lock.unlink(missing_ok=True)


def read_writer(out: Path) -> Writer | None:
    """Who writes to a folder; None where nobody says so."""
    try:
        return read_record(out / WRITER, Writer)
    except KitsamError:
        return None


def _held_alone(lock: Path, out: Path) -> AbstractContextManager:
    file_lock = FileLock(lock, fallback_to_soft=False)
    with suppress(Timeout):
        return file_lock.acquire(blocking=False)
    writer = read_writer(out)
    here = writer is None or writer.host == socket.gethostname()
    who = f"process {writer.process} on {writer.host}, since {writer.since[:19]} UTC" if writer else "another process"
    if not here:
        warn(f"{out}: {who}, writes there: waiting {LEASE:.0f} s, in case that machine has died")
        with suppress(Timeout):
            return file_lock.acquire(timeout=LEASE, poll_interval=1)
    raise OptionError(f"--out: {out}: {who}, writes there: let it end, or choose another folder")
