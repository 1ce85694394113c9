"""One process or thread at a time: the lock file beside what several of them want to write.

`filelock` takes the lock of the operating system, on Linux, macOS and Windows. It goes with its holder, however
that ends, and binds the processes of all machines that share the folder. A file system without locks (some network
mounts) is warned of once and then used without: the work itself is complete or absent, so that two who do it at once
do it twice, no more.
"""

import errno
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from kitsam.system.console import warn
from kitsam.system.errors import KitsamError

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
