"""Shards: plain tars that appear under their names only when complete, each with an index beside it.

The tar is written through a hash to a temporary name, flushed, renamed; then its sidecar `.json` is written, which
holds the tar's SHA-256 and, per sample, where each member lies. A tar without its sidecar is thus unfinished. Times, owners
and the order of members are fixed, so that the same samples give the same bytes.
"""

import hashlib
import tarfile
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from kitsam.config import Storage
from kitsam.errors import ShardError
from kitsam.files import complete_or_absent, read_json, write_json
from kitsam.shards.sample import (
    EMBEDDING,
    MASK,
    RECORD,
    SCALE,
    SampleRecord,
    encode_members,
    payload_offset,
)


@dataclass(frozen=True)
class SampleEntry:
    """A sample in a shard's index."""

    key: str
    case: str
    slice: int
    view: int
    pixels: tuple[int, int, int, int]  # background, kidney, tumor, cyst
    embedding: int  # offset of the embedding's numbers in the tar, bytes
    record: tuple[int, int]  # offset and size of KEY.json
    mask: tuple[int, int]  # offset and size of KEY.mask.png
    scale: int | None = None  # offset of the channels' scales, where the numbers are int8


@dataclass(frozen=True)
class ShardIndex:
    """A shard's sidecar."""

    sha256: str
    bytes: int
    unit: dict[str, Any]  # what was embedded together with it: see embedding.py
    samples: tuple[SampleEntry, ...]


@final
class ShardWriter(AbstractContextManager):
    """Write one shard. Leaving the block by an error leaves no trace of it; else `index` tells what was written."""

    def __init__(self, path: Path, storage: Storage = "float16") -> None:
        self.path, self.storage = path, storage
        self._samples: list[SampleEntry] = []
        self._digest = hashlib.sha256()
        self._size = 0

    def __enter__(self) -> "ShardWriter":
        with ExitStack() as stack:
            temporary = stack.enter_context(complete_or_absent(self.path))
            self._file = stack.enter_context(open(temporary, "wb"))
            self._opened = stack.pop_all()
        return self

    def add(self, embedding: np.ndarray, mask: np.ndarray, record: SampleRecord) -> None:
        """`embedding`: (256, G, G) float16; `mask`: (h, w) uint8."""
        members = encode_members(embedding, mask, record, self.storage)
        places = {suffix: self._add_member(f"{record.key}.{suffix}", data) for suffix, data in members.items()}
        entry = SampleEntry(
            record.key,
            record.case,
            record.slice,
            record.view,
            record.pixels,
            embedding=places[EMBEDDING] + payload_offset(members[EMBEDDING]),
            scale=places[SCALE] + payload_offset(members[SCALE]) if SCALE in members else None,
            record=(places[RECORD], len(members[RECORD])),
            mask=(places[MASK], len(members[MASK])),
        )
        self._samples.append(entry)

    def _add_member(self, name: str, data: bytes) -> int:
        info = tarfile.TarInfo(name)  # time 0, mode 0644, owner 0: nothing that changes from run to run
        info.size = len(data)
        self._write(info.tobuf(tarfile.USTAR_FORMAT))
        offset = self._size
        self._write(data + bytes(-len(data) % tarfile.BLOCKSIZE))
        return offset

    def _write(self, data: bytes) -> None:
        # Several shards are open at once: the error must name the one that met it.
        try:
            self._file.write(data)
        except OSError as error:
            raise ShardError(f"{self.path}: cannot be written: {error.strerror}") from error
        self._digest.update(data)
        self._size += len(data)

    def __exit__(self, kind, error, traceback) -> None:
        if error is None:
            self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._opened.__exit__(kind, error, traceback)

    def index(self, unit: dict[str, Any]) -> ShardIndex:
        """What the sidecar holds, once the block has ended."""
        return ShardIndex(self._digest.hexdigest(), self._size, unit, tuple(self._samples))


def index_path(shard: Path) -> Path:
    return shard.with_suffix(".json")


def write_index(shard: Path, index: ShardIndex) -> None:
    write_json(index_path(shard), asdict(index))


def read_index(shard: Path) -> ShardIndex:
    path = index_path(shard)
    fields = read_json(path)
    try:
        samples = tuple(
            SampleEntry(**{name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()})
            for entry in fields.pop("samples")
        )
        return ShardIndex(**fields, samples=samples)
    except (KeyError, TypeError, AttributeError) as error:
        raise ShardError(f"{path}: not the index of a shard: {error}") from error
