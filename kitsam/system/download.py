"""One file from an address to the disk: complete and right, or absent, with one line of error that names the address.

What breaks is resumed where it broke, after growing pauses, for as long as that gets further; what cannot get better
is not tried again. The file grows as NAME.part and gets its name after its check; that costs reading it once more.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path

from kitsam.system.console import warn
from kitsam.system.errors import KitsamError
from kitsam.system.transfer import Transfer, disk_errors, transfer
from kitsam.system.trouble import Trouble

TRIES = 5  # in a row that get no further
FIRST_DELAY = 1.0  # seconds; doubles from try to try


class DownloadError(KitsamError):
    """An address that does not bring its file. `absent`: for all that can be told, there is none."""

    def __init__(self, message: str, absent: bool = False) -> None:
        super().__init__(message)
        self.absent = absent


class Damage(KitsamError):
    """What arrived is not what it should be; another try may bring it."""


def is_address(text: str) -> bool:
    """Something that must be fetched, not a folder."""
    return "://" in text or text.startswith("pipe:")


def download(
    address: str,
    path: Path,
    check: Callable[[Path], None],
    *,
    resumable: bool = False,
    size: int | None = None,
    title: str = "",
    ended: threading.Event | None = None,
) -> None:
    """Put the bytes of `address` at `path`; where several may want it, inside `alone(path)`.

    `check` gets the complete file under another name and raises `Damage` when it should be fetched again, another
    `KitsamError` when that is of no use. `resumable`: it knows the file's checksum, so that what one run leaves, unlike
    bytes of any version, may be gone on with by a later one. `size`: bytes, where a server may not tell. `title`: of a
    progress bar. `ended`: when it is set, nobody wants the file any more.

    Raises `DownloadError` naming the address, `KitsamError` naming the file when the disk fails.
    """
    part = path.with_name(f"{path.name}.part")
    with disk_errors(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        if not resumable:
            part.unlink(missing_ok=True)
    try:
        _complete(Transfer(address, part, size, title, ended or threading.Event()), check)
        with disk_errors(path):
            os.replace(part, path)
    finally:
        if not resumable:
            part.unlink(missing_ok=True)


def _complete(task: Transfer, check: Callable[[Path], None]) -> None:
    furthest, failures = task.received(), 0
    while True:
        try:
            in_one_piece = not task.received()
            transfer(task)
            _judge(task.part, check, in_one_piece)
            return
        except Trouble as error:
            trouble = error
        if not trouble.may_pass:
            raise DownloadError(f"{task.address}: {trouble}", trouble.absent) from trouble
        # A server that cannot resume must not look like progress each time, or a broken one is asked for ever.
        failures = 0 if task.received() > furthest else failures + 1
        furthest = max(furthest, task.received())
        if failures >= TRIES:
            tries = f"tried {TRIES} times without getting further"
            raise DownloadError(f"{task.address}: {trouble} ({tries})", trouble.absent) from trouble
        delay = FIRST_DELAY * 2 ** max(failures - 1, 0)
        warn(f"{task.address}: {trouble}; trying again in {delay:g} s")
        task.ended.wait(delay)


def _judge(part: Path, check: Callable[[Path], None], in_one_piece: bool) -> None:
    """Remove a `part` that `check` refuses: the pieces of two versions may make a wrong file of right bytes."""
    try:
        check(part)
    except KitsamError as error:
        part.unlink(missing_ok=True)
        raise Trouble(str(error), may_pass=isinstance(error, Damage) or not in_one_piece) from error
