"""The manifest: what a shard set holds and how it was made.

`manifest.json` is small: settings, split, and one line per shard; the samples of a shard are listed in its sidecar. It
is written once, when every shard is there, so a set without one is unfinished. Embeddings of one encoder and window
mean nothing to a decoder trained on another's: `signature` is what must agree.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kitsam.ct.split import Split
from kitsam.ct.strata import STRATA
from kitsam.shards.config import CacheConfig
from kitsam.shards.source import Source, open_source
from kitsam.system.errors import OptionError, ShardError
from kitsam.system.files import read_json, write_json
from kitsam.system.records import as_record

FORMAT_VERSION = 1
NAME = "manifest.json"
INITIAL_DECODER = "decoder.safetensors"  # beside the manifest: SAM's own decoder, where the encoder has a checkpoint
SHARD_NAME = re.compile(r"(train|val)/[\w-]+\.tar", re.ASCII)


@dataclass(frozen=True)
class ShardEntry:
    """One shard in the manifest."""

    name: str  # train/kidney-0000-00.tar or val/case_00000.tar, below the set's folder
    stratum: str | None  # of training shards
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Signature:
    """The settings that embeddings must share for one decoder to understand them."""

    encoder: dict[str, Any]
    input: dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`."""

    format: int
    kitsam: str  # version that wrote the set
    encoder: dict[str, Any]  # name, weights_sha256, input_size
    input: dict[str, Any]  # channels, window(s)
    embedding: dict[str, Any]  # dtype, shape
    settings: dict[str, Any]  # views, background_ratio, group_cases, shard_samples, seed
    split: Split
    skipped: dict[str, str]  # case -> why it could not be embedded
    voxels: tuple[int, int, int, int]  # per class, over the training cases as they are on disk
    strata: dict[str, int]  # training samples per stratum
    train: tuple[ShardEntry, ...]
    val: tuple[ShardEntry, ...]

    @property
    def signature(self) -> Signature:
        """What a decoder's training set and any other set must agree in."""
        return Signature(self.encoder, self.input)

    @property
    def grid(self) -> int:
        """Cells a side of an embedding."""
        return self.embedding["shape"][-1]


def write_manifest(shards: Path, manifest: Manifest) -> None:
    write_json(shards / NAME, asdict(manifest))


def read_manifest(shards: str | Path, option: str = "--shards", source: Source | None = None) -> Manifest:
    """Read the manifest of the set in a folder or at an address, or from its `source` where that is open already.

    Raises `OptionError` naming `option` when there is no finished set, `ShardError` when the manifest is not valid.
    """
    source = source or open_source(shards, CacheConfig(), option)
    path = source.small_file(NAME)
    if path is None:
        raise OptionError(
            f"{option}: no finished shard set in {shards}: no {NAME} (run `kitsam embed` again to finish it)"
        )
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT_VERSION:
        raise ShardError(f"{path}: not a shard set of format {FORMAT_VERSION}")
    manifest = as_record(content, Manifest, path, ShardError)
    for entry in (*manifest.train, *manifest.val):
        # A name becomes part of a path or of a command, so it must be harmless.
        if not SHARD_NAME.fullmatch(entry.name):
            raise ShardError(f"{path}: not the name of a shard: {entry.name!r}")
    return manifest


def count_strata(shards: Sequence[ShardEntry]) -> dict[str, int]:
    """Samples per stratum."""
    return {stratum: sum(shard.samples for shard in shards if shard.stratum == stratum) for stratum in STRATA}


def check_signature(expected: Signature, actual: Signature, decoder: Path, source: str | Path) -> None:
    """Raises `ShardError` naming the first setting in which `decoder`'s training set and `source` differ."""
    for part in ("encoder", "input"):
        settings = getattr(actual, part)
        for name, value in getattr(expected, part).items():
            if settings.get(name) != value:
                raise ShardError(
                    f"{source}: {part} {name} is {settings.get(name)}, but {decoder} was trained with {value}"
                )
