"""Checkpoints: fetched once, checked always.

The official files of Segment Anything are known by URL, size and SHA-256; MedSAM's has no published checksum, so
the one that arrived is recorded beside it and holds from then on. A file gets its name in the cache only after its
checksum was right. A download that breaks is resumed where it broke, in the same run or, where a checksum can tell
old bytes from wrong ones, in a later one. Each use hashes the file again: a second or less for vit_b, little beside
embeddings made with wrong weights. Weights are read without pickle's code: a file that needs it is refused.
"""

import fcntl
import http.client
import os
import pickle
import struct
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kitsam.sam.config import WeightsConfig
from kitsam.system.console import Tick, progress, say, warn
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import cache_folder, sha256_of, write_text

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Checkpoint:
    """A file of the cache; without a published checksum the user says where it comes from."""

    file: str
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None


_OFFICIAL = "https://dl.fbaipublicfiles.com/segment_anything"

CHECKPOINTS = {
    "vit_b": Checkpoint(
        "sam_vit_b_01ec64.pth",
        f"{_OFFICIAL}/sam_vit_b_01ec64.pth",
        375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "vit_l": Checkpoint(
        "sam_vit_l_0b3195.pth",
        f"{_OFFICIAL}/sam_vit_l_0b3195.pth",
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "vit_h": Checkpoint(
        "sam_vit_h_4b8939.pth",
        f"{_OFFICIAL}/sam_vit_h_4b8939.pth",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    "medsam": Checkpoint("medsam_vit_b.pth"),
}

TRIES = 5  # in a row that bring nothing new
FIRST_DELAY = 1.0  # seconds; doubles from try to try
TIMEOUT = 30.0  # seconds without a byte
BLOCK = 1 << 18  # bytes; the most that a broken connection takes with it
MEGABYTE = 1_000_000


def run(config: WeightsConfig) -> int:
    """Source -> NAME.part -> checksum -> the cache."""
    checkpoint = CHECKPOINTS[config.name]
    source = _source(config.source)
    path = cache_folder() / checkpoint.file
    with _one_process_at_a_time(path):
        if _is_cached(path, checkpoint, source):
            say(f"{config.name} is in the cache already, its checksum is right: {path}")
            return 0
        source = source or checkpoint.url
        if source is None:
            raise OptionError(f"--from: {config.name} has no official address, give a URL or a file")
        part = path.with_name(f"{path.name}.part")
        if isinstance(source, Path):
            _copy(source, part)
        else:
            _download(source, part, checkpoint)
        sha256 = _check(part, checkpoint, source)
        if checkpoint.sha256 is None:
            # Before the file itself: broken off in between, a new record refuses an old file, and nothing is trusted.
            write_text(_record(path), f"{sha256}  {path.name}\n")
        with _disk(path, "written"):
            os.replace(part, path)
    say(f"{config.name}: wrote {path} ({path.stat().st_size / MEGABYTE:.1f} MB, SHA-256 {sha256})")
    return 0


def checkpoint_path(name: str, checkpoint: Path | None = None) -> Path:
    """The file with the weights of `name`: the given one as it is, or the cached one after its checksum."""
    if checkpoint is not None:
        if not checkpoint.is_file():
            raise OptionError(f"--encoder.checkpoint: no such file: {checkpoint}")
        return checkpoint
    entry = CHECKPOINTS[name]
    path = cache_folder() / entry.file
    command = f'"kitsam weights {name}"' if entry.url else f'"kitsam weights {name} --from FILE"'
    if not path.is_file():
        raise KitsamError(f"{name} is not in the cache: run {command}")
    expected = _expected_sha256(path, entry)
    if expected is None:
        raise KitsamError(f"{path}: its checksum was never recorded ({_record(path).name}): run {command}")
    found = _sha256(path)
    if found != expected:
        raise KitsamError(f"{path}: expected SHA-256 {expected}, found {found}: run {command} to fetch it again")
    return path


def read_checkpoint(path: Path) -> "dict[str, torch.Tensor]":
    """The tensors of a .pth or .safetensors file, by name, mapped from the file where its format allows."""
    import safetensors
    import safetensors.torch
    import torch

    try:
        with _disk(path, "read"), open(path, "rb") as file:
            head = file.read(9)
        # By content: the cache calls every file .pth, and a download has no ending yet.
        if path.suffix == ".safetensors" or head[8:] == b"{":
            state = safetensors.torch.load_file(path)
        else:
            with warnings.catch_warnings():
                # An unusual pickle is either read or refused below; torch's advice about it helps nobody.
                warnings.simplefilter("ignore", UserWarning)
                state = torch.load(path, map_location="cpu", weights_only=True, mmap=head.startswith(b"PK"))
    except pickle.UnpicklingError as error:
        # torch's own text recommends to load the file with its code.
        raise KitsamError(f"{path}: not a checkpoint, or one with code in it, which is never run") from error
    except _DAMAGE + (safetensors.SafetensorError,) as error:
        raise KitsamError(f"{path}: not a checkpoint, or truncated") from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]
    if not isinstance(state, dict) or not state:
        raise KitsamError(f"{path}: holds no weights by name")
    if not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()):
        raise KitsamError(f"{path}: holds no weights by name")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return dict(state)


# What torch's reader meets in bytes that are no checkpoint, or not all of one.
_DAMAGE = (
    RuntimeError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OSError,
    struct.error,
)


def _source(text: str | None) -> str | Path | None:
    """A URL as text, a local file as a path."""
    if text is None or text.startswith(("http://", "https://")):
        return text
    if "://" in text:
        raise OptionError(f"--from: only http and https addresses, or a file: {text}")
    path = Path(text).expanduser()
    if not path.is_file():
        raise OptionError(f"--from: no such file: {path}")
    return path


@contextmanager
def _one_process_at_a_time(path: Path) -> Iterator[None]:
    """Others that want the same file (the nodes of a job, a shared home) wait, and then find it in the cache."""
    lock = path.with_name(f".{path.name}.lock")
    with _disk(lock, "written"):
        lock.parent.mkdir(parents=True, exist_ok=True)
    with _open(lock, "ab") as file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                warn(f"{path}: another process is fetching it, waiting")
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            warn(f"{lock}: this file system has no locks, do not run the command twice at once")
        yield


def _is_cached(path: Path, checkpoint: Checkpoint, source: str | Path | None) -> bool:
    if not path.is_file():
        return False
    expected, found = _expected_sha256(path, checkpoint), _sha256(path)
    if found != expected:
        warn(f"{path}: expected SHA-256 {expected or 'not recorded'}, found {found}: it will be replaced")
        return False
    # Another file for a name without a published checksum replaces the first; of a URL nobody knows in advance.
    return checkpoint.sha256 is not None or not isinstance(source, Path) or _sha256(source) == found


def _expected_sha256(path: Path, checkpoint: Checkpoint) -> str | None:
    if checkpoint.sha256 is not None:
        return checkpoint.sha256
    record = _record(path)
    if not record.is_file():
        return None
    words = record.read_text(encoding="utf-8", errors="replace").split()
    return words[0] if words else None


def _record(path: Path) -> Path:
    """Of the form that `sha256sum --check` reads."""
    return path.with_name(f"{path.name}.sha256")


def _sha256(path: Path) -> str:
    with _disk(path, "read"):
        return sha256_of(path)


def _check(part: Path, checkpoint: Checkpoint, source: str | Path) -> str:
    """The SHA-256 of a complete `part`; a wrong one is removed."""
    sha256, size = _sha256(part), part.stat().st_size
    if checkpoint.sha256 is None:
        try:
            # Links to MedSAM often lead to a web page about the file.
            read_checkpoint(part)
        except KitsamError as error:
            part.unlink()
            raise KitsamError(f"{source}: {str(error).removeprefix(f'{part}: ')} ({size} bytes)") from error
    elif sha256 != checkpoint.sha256:
        part.unlink()
        raise KitsamError(f"{source}: expected SHA-256 {checkpoint.sha256}, found {sha256} ({size} bytes)")
    return sha256


def _copy(source: Path, part: Path) -> None:
    with (
        _disk(source, "read"),
        open(source, "rb") as original,
        _open(part, "wb") as file,
        _megabytes(source.name, source.stat().st_size) as tick,
    ):
        while block := original.read(BLOCK):
            _write(file, block, part)
            tick(len(block) / MEGABYTE)
        _flush(file, part)


def _download(url: str, part: Path, checkpoint: Checkpoint) -> None:
    """Fill `part` from `url`, from where it ends; try again while the trouble may pass."""
    if checkpoint.sha256 is None:
        # What an earlier run left may be of another address, and no checksum would tell.
        part.unlink(missing_ok=True)
    furthest, failures = _size(part), 0
    while True:
        try:
            _request(url, part, checkpoint)
            return
        except (http.client.InvalidURL, ValueError) as error:
            raise KitsamError(f"{url}: not an address: {error}") from error
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP {error.code} {error.reason}"
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and part.exists():
                # Nothing is left to send: the part is complete, or never was of this file.
                if _sha256(part) == checkpoint.sha256:
                    return
                part.unlink()
            elif error.code < 500 and error.code not in (408, 429):
                raise KitsamError(f"{url}: {reason}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        # A server that cannot resume must not look like progress each time, or a broken one is asked for ever.
        failures = 0 if _size(part) > furthest else failures + 1
        furthest = max(furthest, _size(part))
        if failures >= TRIES:
            raise KitsamError(f"{url}: {reason} ({TRIES} tries brought nothing more)")
        delay = FIRST_DELAY * 2 ** max(failures - 1, 0)
        warn(f"{url}: {reason}; trying again in {delay:g} s")
        time.sleep(delay)


class _BadReply(ConnectionError):
    """Less or other bytes than promised, which raises no error of its own."""


def _request(url: str, part: Path, checkpoint: Checkpoint) -> None:
    offset = _size(part)
    headers = {"User-Agent": "kitsam", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as reply:
        resumed = reply.status == http.client.PARTIAL_CONTENT
        if resumed and not reply.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            part.unlink(missing_ok=True)
            raise _BadReply("the server sent another range than asked for")
        if not resumed:
            offset = 0
        length = reply.headers.get("Content-Length", "")
        total = offset + int(length) if length.isdigit() else checkpoint.bytes
        with _open(part, "ab" if resumed else "wb") as file, _megabytes(checkpoint.file, total, offset) as tick:
            while block := reply.read(BLOCK):
                _write(file, block, part)
                tick(len(block) / MEGABYTE)
            _flush(file, part)
    if total is not None and _size(part) < total:
        raise _BadReply(f"the connection closed after {_size(part)} of {total} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _megabytes(name: str, total: int | None, done: int = 0) -> AbstractContextManager[Tick]:
    return progress(name, max(1, (total or 0) // MEGABYTE), "MB", done // MEGABYTE)


def _open(part: Path, mode: str) -> BinaryIO:
    """Unbuffered: a full disk is met in `_write`, not when the file closes."""
    with _disk(part, "written"):
        return open(part, mode, buffering=0)


def _write(file: BinaryIO, block: bytes, part: Path) -> None:
    rest = memoryview(block)
    with _disk(part, "written"):
        while rest:
            rest = rest[file.write(rest) :]


def _flush(file: BinaryIO, part: Path) -> None:
    with _disk(part, "written"):
        os.fsync(file.fileno())


@contextmanager
def _disk(path: Path, verb: str) -> Iterator[None]:
    """Keeps the disk's errors apart from the network's, which are `OSError` too."""
    try:
        yield
    except OSError as error:
        raise KitsamError(f"{path}: cannot be {verb}: {error.strerror or error}") from error
