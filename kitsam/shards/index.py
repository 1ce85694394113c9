"""The index of a shard: a sidecar `.json` with the tar's SHA-256 and, per sample, the offset of each member.

It is written after its tar, so a tar without one is unfinished. With the offsets a sample is read by one call, without
looking through the tar; its checksum tells when the bytes are not those that were written.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kitsam.shards.boxes import Box
from kitsam.system.errors import ShardError
from kitsam.system.files import sha256_of, write_json
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
    crc32: int | None = None  # of the tar's bytes from the embedding's numbers to the end of the mask; since format 2
    ct: tuple[int, int] | None = None  # offset and size of KEY.ct.png, where the set keeps the slices
    kidneys: tuple[Box, ...] = ()  # around each kidney with its masses; since format 2
    tumors: tuple[Box, ...] = ()  # around each connected part of a tumor
    cysts: tuple[Box, ...] = ()

    def moved(self, by: int) -> "SampleEntry":
        """The entry of the same sample `by` bytes further on in a tar."""
        (record, record_size), (mask, mask_size) = self.record, self.mask
        return replace(
            self,
            embedding=self.embedding + by,
            scale=None if self.scale is None else self.scale + by,
            record=(record + by, record_size),
            mask=(mask + by, mask_size),
            ct=None if self.ct is None else (self.ct[0] + by, self.ct[1]),
        )


@dataclass(frozen=True)
class ShardIndex:
    """A shard's sidecar."""

    sha256: str
    bytes: int
    samples: tuple[SampleEntry, ...]
    unit: dict[str, Any] | None = None  # what was embedded together with it; in format 1 only


def index_path(shard: Path) -> Path:
    """The sidecar of a tar."""
    return shard.with_suffix(".json")


def write_index(shard: Path, index: ShardIndex) -> None:
    write_json(index_path(shard), {name: value for name, value in asdict(index).items() if name != "unit"})


def read_index(shard: Path, sha256: str | None = None) -> ShardIndex:
    """Read a shard's sidecar.

    Raises `ShardError` naming it when it is missing, is no index, or has another SHA-256 than the given one.
    """
    path = index_path(shard)
    index = read_record(path, ShardIndex, ShardError)
    if sha256 is not None and sha256_of(path) != sha256:
        raise ShardError(f"{path}: damaged: its SHA-256 is not the manifest's")
    return index
