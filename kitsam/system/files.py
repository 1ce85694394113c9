"""Files that are complete or absent.

Every result is written under a temporary name beside its own, flushed to disk and renamed, so that a reader
never meets half a file and a broken-off command leaves nothing that looks finished. A temporary name holds machine
and process: two that write the same file do not meet, and a later command can tell what a killed one has left.
"""

import hashlib
import json
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from kitsam.system.errors import KitsamError

_TEMPORARY = re.compile(r"\.tmp-(?P<host>[A-Za-z0-9._]+)-(?P<pid>[0-9]{1,9})-.+")
# Whether a process of another machine still lives cannot be seen; none writes for a day and leaves its file untouched.
ABANDONED = 24 * 3600.0  # seconds
# The temporary names of this process; a number of an earlier one may come again, in a container nearly always.
_in_use: set[str] = set()


@contextmanager
def complete_or_absent(path: Path) -> Iterator[Path]:
    """Yield a temporary, empty file with the same ending; it becomes `path` when the block ends without an error.

    It gets the mode of any new file (the user's umask), whatever its writer gives it: safetensors makes files that
    nobody else may read. A failing write (a full disk, no permission) is a `KitsamError` naming `path`, and leaves
    nothing behind.
    """
    with temporary_name(path) as temporary:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = _create(temporary)
            yield temporary
            flush_file(temporary, mode)
            os.replace(temporary, path)
        except OSError as error:
            raise KitsamError(f"{path}: cannot be written: {error.strerror or error}") from error


def _create(path: Path) -> int:
    """The mode that a new file gets here; the umask itself could only be read by changing it for all threads."""
    path.unlink(missing_ok=True)
    with open(path, "xb") as file:
        return stat.S_IMODE(os.fstat(file.fileno()).st_mode)


@contextmanager
def temporary_name(path: Path) -> Iterator[Path]:
    """A name beside `path`, of this process alone, for a file that is removed when the block ends.

    Its ending is that of `path`, since some writers (nibabel) choose the format by it.
    """
    temporary = path.with_name(f".tmp-{_host()}-{os.getpid()}-{path.name}")
    own = str(temporary.absolute())
    _in_use.add(own)
    try:
        yield temporary
    finally:
        # Windows keeps a file that is open: a later command removes it. What could not be made is not there.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        _in_use.discard(own)


def _host() -> str:
    """This machine's name in letters that file names may hold; never with the dash that ends it there."""
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname()) or "_"


def remove_leftovers(folder: Path, pattern: str = ".tmp-*") -> None:
    """Remove the temporary files that match `pattern` and whose process has ended.

    A process of this machine is looked up. What another machine left, or a version whose temporary names have no
    machine, goes when it has not been modified for a day.
    """
    for path in folder.glob(pattern):
        # Windows keeps a file that is being read: it goes another time, as does one that is not ours to remove.
        with suppress(OSError):
            if _is_left_over(path):
                path.unlink()


def _is_left_over(path: Path) -> bool:
    name = _TEMPORARY.fullmatch(path.name)
    if name is None or name["host"] != _host():
        return path.stat().st_mtime < time.time() - ABANDONED
    pid = int(name["pid"])
    if pid != os.getpid():
        return not psutil.pid_exists(pid)
    # A download grows beside its name, with a longer one.
    return not str(path.absolute()).startswith(tuple(_in_use))


def flush_file(path: Path, mode: int) -> None:
    """Give a file its mode and bring it to the disk."""
    with open(path, "r+b") as file:  # Windows flushes only what may be written
        # Some file systems know no modes: what is right already is not set.
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) != mode:
            path.chmod(mode)
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, so that what was renamed stays so when the power fails."""
    if os.name == "nt":
        return  # opens no folders; NTFS keeps a journal of names
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    with complete_or_absent(path) as temporary:
        # A file name may hold what is no letter of any encoding; escaped so, JSON reads it again as it was.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Keys keep their order; the same value gives the same bytes."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path, error: type[KitsamError] = KitsamError, name: object = None) -> Any:
    """Raises `error` naming the file, or `name` where the file is only a copy, when it is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as reason:
        raise error(f"{name or path}: cannot be read: {reason.strerror}") from reason
    except (ValueError, RecursionError) as reason:
        raise error(f"{name or path}: cannot be read as JSON: {reason}") from reason


def read_yaml(path: Path, error: type[KitsamError] = KitsamError) -> Any:
    """Raises `error` naming the file when it is missing or is not YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as reason:
        raise error(f"{path}: cannot be read: {reason.strerror}") from reason
    except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as reason:
        raise error(f"{path}: cannot be read as YAML: {' '.join(str(reason).split())}") from reason


def look_anew(*folders: Path) -> None:
    """Have a network file system forget which files of the folders it thought absent: others have written them."""
    for folder in folders:
        with suppress(FileNotFoundError), os.scandir(folder):
            pass  # opening a folder has NFS ask its server (close-to-open consistency)


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cache_folder() -> Path:
    """$KITSAM_CACHE, else $XDG_CACHE_HOME/kitsam, else ~/.cache/kitsam."""
    if own := os.environ.get("KITSAM_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kitsam"
