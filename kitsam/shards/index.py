"""The index of a shard: a sidecar `.json` that holds the tar's SHA-256 and, per sample, where each member lies.

It is written after its tar; a tar without one is unfinished.
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
    """What was embedded together with a shard, in one unit of work."""

    planned: dict[str, Any] = field(default_factory=dict)  # cases and number of samples, as embedding's plan has them
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
    return shard.with_suffix(".json")


def write_index(shard: Path, index: ShardIndex) -> None:
    write_json(index_path(shard), asdict(index))


def read_index(shard: Path) -> ShardIndex:
    """Raises `ShardError` naming the sidecar when it is missing or is none."""
    return read_record(index_path(shard), ShardIndex, ShardError)
