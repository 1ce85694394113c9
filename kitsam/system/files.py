"""Files that are complete or absent.

Every result is written under a temporary name beside its own, flushed to disk and renamed, so that a reader
never meets half a file and a broken-off command leaves nothing that looks finished.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from kitsam.system.errors import KitsamError


@contextmanager
def complete_or_absent(path: Path) -> Iterator[Path]:
    """Yield a temporary path with the same ending; rename it to `path` when the block ends without an error.

    A failing write (a full disk, no permission) is a `KitsamError` naming `path`, and leaves nothing behind.
    """
    # The process number keeps two processes that write the same file apart; the ending stays, since some
    # writers (nibabel) choose the format by it.
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "r+b") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise KitsamError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with complete_or_absent(path) as temporary:
        # A file name may hold what is no letter of any encoding; escaped so, JSON reads it again as it was.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Keys keep their order; the same value gives the same bytes."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path, error: type[KitsamError] = KitsamError) -> Any:
    """Raises `error` naming the file when it is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as reason:
        raise error(f"{path}: cannot be read: {reason.strerror}") from reason
    except (ValueError, RecursionError) as reason:
        raise error(f"{path}: cannot be read as JSON: {reason}") from reason


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
