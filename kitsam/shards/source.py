"""Where a shard set's files are: in a folder, or at an address with a bounded cache in between.

A set at an address is read file by file through a folder on this machine, shared by all processes of the node. A tar
lies there under its own SHA-256, so that it is right or absent, whichever set or version it belongs to; one process
fetches it, the others wait for it. What was used longest ago goes when the cache is full. A file that is removed while
another process reads it stays readable until it is closed. The manifest and the files beside it, which have no checksum
of their own, are fetched by each process that reads them and are gone when it has. While a tar is on its way for the
first time, its samples may be read without it (`head_start.py`).
"""

import hashlib
import itertools
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from kitsam.shards.config import CacheConfig
from kitsam.shards.head_start import HEAD_START, HeadStart
from kitsam.shards.index import SampleEntry
from kitsam.system.download import Damage, DownloadError, download, is_address
from kitsam.system.errors import OptionError, ShardError
from kitsam.system.files import cache_folder, remove_leftovers, sha256_of, temporary_name
from kitsam.system.locks import alone
from kitsam.system.transfer import disk_errors

if TYPE_CHECKING:
    from kitsam.shards.manifest import ShardEntry

GIB = 2**30
_copies = itertools.count()  # of this process, that its threads' do not meet


class Source(Protocol):
    """Files of a set by their names in it. `sha256` is the tar's own, or for its index the tar's."""

    remote: bool

    def open(self, name: str, sha256: str) -> BinaryIO:
        """A tar, unbuffered. Raises `ShardError` naming it when it cannot be had."""

    def open_early(self, samples: Iterable[tuple["ShardEntry", SampleEntry]], stack: ExitStack) -> dict[str, BinaryIO]:
        """By the names of shards files to read these samples from, where that is faster than to open their tars."""

    def index(self, name: str, sha256: str) -> Path:
        """A tar's index, as a local file."""

    def small_file(self, name: str) -> AbstractContextManager[Path | None]:
        """The manifest or a file beside it, as a local file that is there in the block; None when the set has none.

        Raises `ShardError` naming its address when that cannot be asked.
        """


def open_source(shards: str | Path, cache: CacheConfig, option: str) -> Source:
    """Raises `OptionError` when `shards` is no folder and no address."""
    if is_address(str(shards)):
        return CachedAddress(str(shards), cache)
    if not Path(shards).is_dir():
        raise OptionError(f"{option}: no such folder: {shards}")
    return Folder(Path(shards))


def absolute(shards: str | Path) -> str:
    """A folder's absolute path; an address as it is."""
    return str(shards) if is_address(str(shards)) else str(Path(shards).absolute())


class Folder:
    remote = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, name: str, sha256: str) -> BinaryIO:
        try:
            return open(self.folder / name, "rb", buffering=0)
        except OSError as error:
            raise ShardError(f"{self.folder / name}: no such shard") from error

    def open_early(self, samples: Iterable[tuple["ShardEntry", SampleEntry]], stack: ExitStack) -> dict[str, BinaryIO]:
        return {}

    def index(self, name: str, sha256: str) -> Path:
        return self.folder / Path(name).with_suffix(".json")

    @contextmanager
    def small_file(self, name: str) -> Iterator[Path | None]:
        path = self.folder / name
        yield path if path.is_file() else None


class CachedAddress:
    remote = True

    def __init__(self, address: str, cache: CacheConfig) -> None:
        self.address = address.rstrip("/")
        self.folder = (cache.folder or cache_folder() / "shards").expanduser()
        self.bound, self.fetches = int(cache.size * GIB), cache.fetches  # bytes, shards at a time
        # Where nobody fetches tars ahead of need, reading samples without them only puts them off.
        self.head_start = HeadStart(self.address, self.folder, HEAD_START if cache.ahead else 0)

    def open(self, name: str, sha256: str, ended: threading.Event | None = None) -> BinaryIO:
        """`ended`: when it is set, nobody wants the tar any more."""
        path = self._tar(sha256)
        while True:
            self._have(f"{self.address}/{name}", path, lambda file: _check_sha256(file, sha256), ended)
            try:
                now = time.time_ns()  # the file system's own clock ticks some milliseconds apart
                os.utime(path, ns=(now, now))
                return open(path, "rb", buffering=0)
            except FileNotFoundError:
                continue  # another process made room in between

    def _tar(self, sha256: str) -> Path:
        return self.folder / f"{sha256}.tar"

    def open_early(self, samples: Iterable[tuple["ShardEntry", SampleEntry]], stack: ExitStack) -> dict[str, BinaryIO]:
        absent: defaultdict[ShardEntry, list[SampleEntry]] = defaultdict(list)
        for shard, entry in samples:
            # A validation case is read whole, and nobody fetches its tar in the meantime.
            if shard.stratum and not self._tar(shard.sha256).exists():
                absent[shard].append(entry)
        return self.head_start.open(absent, stack)

    def index(self, name: str, sha256: str) -> Path:
        path = self.folder / f"{sha256}.json"
        self._have(f"{self.address}/{Path(name).with_suffix('.json')}", path, lambda file: _check_index(file, sha256))
        return path

    @contextmanager
    def small_file(self, name: str) -> Iterator[Path | None]:
        """Fetched anew each time: nothing tells whether an earlier one is still the set's."""
        remove_leftovers(self.folder)
        own = hashlib.sha256(self.address.encode()).hexdigest()[:16]
        with temporary_name(self.folder / f"{own}-{next(_copies)}-{name}") as path:
            there = _fetch_if_there(f"{self.address}/{name}", path)
            yield path if there else None

    def _have(
        self, address: str, path: Path, check: Callable[[Path], None], ended: threading.Event | None = None
    ) -> None:
        if path.exists():
            return
        # Silently: processes that train in step want the same shards, and all but one wait each time.
        with alone(path):
            if not path.exists():
                # A killed process leaves a temporary file, which others know and remove.
                with temporary_name(path) as temporary:
                    _fetch(address, temporary, check, ended)
                    with disk_errors(path):
                        os.replace(temporary, path)
                self._make_room(path)

    def _make_room(self, newest: Path) -> None:
        """Remove what was used longest ago until the tars fit; `newest` stays, whatever its size."""
        with alone(self.folder / "cache"):
            tars = []
            for path in self.folder.glob("[0-9a-f]*.tar"):
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                tars.append((status.st_mtime_ns, status.st_size, path))
            excess = sum(size for _, size, _ in tars) - self.bound
            for _, size, path in sorted(tars):
                if excess <= 0:
                    return
                if path != newest:
                    # Windows keeps a file that is being read: it goes another time.
                    with suppress(PermissionError):
                        path.unlink(missing_ok=True)
                        excess -= size


def _fetch(address: str, path: Path, check: Callable[[Path], None], ended: threading.Event | None) -> None:
    """Raises `ShardError` naming the address when it cannot be had, `KitsamError` when the disk fails."""
    try:
        download(address, path, check, ended=ended)
    except DownloadError as error:
        raise ShardError(str(error)) from error


def _fetch_if_there(address: str, path: Path) -> bool:
    """Raises as `_fetch` does, but not where the server says that it has no such file."""
    try:
        download(address, path, lambda file: None)
    except DownloadError as error:
        if error.absent:
            return False
        raise ShardError(str(error)) from error
    return True


def _check_sha256(file: Path, expected: str) -> None:
    actual = sha256_of(file)
    if actual != expected:
        raise Damage(f"expected SHA-256 {expected}, found {actual} ({file.stat().st_size} bytes)")


def _check_index(file: Path, expected: str) -> None:
    try:
        actual = json.loads(file.read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise Damage("not the index of a shard") from error
    if actual != expected:
        raise Damage(f"the index of another tar: {actual}, expected {expected}")
