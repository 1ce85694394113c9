"""The index of a shard: a sidecar `.json` with the tar's SHA-256 and, per sample, the offset of each member.

It is written after its tar, so a tar without one is unfinished. With the offsets a sample is read by one call, without
looking through the tar.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kitsam.system.errors import ShardError
from kitsam.system.files import write_json
from kitsam.system.records import read_record


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
class UnitRecord:
    """The unit of work that wrote a shard: some cases, and all shards of their samples."""

    planned: dict[str, Any] = field(default_factory=dict)  # cases and number of samples, as in the plan of embedding
    skipped: dict[str, str] = field(default_factory=dict)  # case -> why it could not be embedded
    shards: tuple[str, ...] = ()  # names of all shards of the unit


@dataclass(frozen=True)
class ShardIndex:
    """A shard's sidecar."""

    sha256: str
    bytes: int
    unit: UnitRecord
    samples: tuple[SampleEntry, ...]


def index_path(shard: Path) -> Path:
    """The sidecar of a tar."""
    return shard.with_suffix(".json")


def write_index(shard: Path, index: ShardIndex) -> None:
    write_json(index_path(shard), asdict(index))


def read_index(shard: Path) -> ShardIndex:
    """Read a shard's sidecar. Raises `ShardError` naming it when it is missing or is no index."""
    return read_record(index_path(shard), ShardIndex, ShardError)
