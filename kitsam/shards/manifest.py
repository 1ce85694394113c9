"""The manifest: what a shard set holds and how it was made.

`manifest.json` is small: settings, split, cases, and one line per shard; the samples of a shard are listed in its
sidecar. It is written once, when every shard is there, so a set without one is unfinished. Embeddings of one encoder
and window mean nothing to a decoder trained on another's: `signature` is what must agree. Which data, split and
settings a set stands for is its `fingerprint`, wherever it lies and whatever it is called.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kitsam.ct.split import Split
from kitsam.ct.strata import STRATA
from kitsam.shards.config import CacheConfig
from kitsam.shards.source import Source, open_source
from kitsam.system.errors import OptionError, ShardError
from kitsam.system.files import read_json
from kitsam.system.records import as_record
from kitsam.system.seals import check_seal, write_sealed

FORMAT_VERSION, OLDEST_FORMAT = 2, 1
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
    index_sha256: str | None = None  # of the sidecar; format 1 has none

    @property
    def case(self) -> str:
        """Of a validation shard."""
        return Path(self.name).stem


@dataclass(frozen=True)
class CaseEntry:
    """One case in the manifest, known by what its files hold."""

    imaging: str  # SHA-256 of the file
    segmentation: str  # SHA-256 of the file
    voxels: tuple[int, int, int, int]  # per class, as they are on disk


@dataclass(frozen=True)
class Signature:
    """The settings that embeddings must share for one decoder to understand them."""

    encoder: dict[str, Any]
    input: dict[str, Any]

    @property
    def input_size(self) -> int:
        """Pixels a side of the encoder's input."""
        return self.encoder["input_size"]


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`."""

    format: int
    kitsam: str  # version that wrote the set
    encoder: dict[str, Any]  # name, weights_sha256, input_size, seed; since format 2 grid and normalization
    input: dict[str, Any]  # channels, window(s)
    embedding: dict[str, Any]  # dtype, shape; since format 2 the encoder's precision
    settings: dict[str, Any]  # views, background_ratio, group_cases, shard_samples, seed
    split: Split  # of a set with folds: all cases on both sides
    skipped: dict[str, str]  # case -> why it could not be embedded
    voxels: tuple[int, int, int, int]  # per class, over the training cases as they are on disk
    strata: dict[str, int]  # training samples per stratum
    train: tuple[ShardEntry, ...]
    val: tuple[ShardEntry, ...]
    cases: dict[str, CaseEntry] = field(default_factory=dict)  # those that were embedded; since format 2
    folds: tuple[tuple[str, ...], ...] = ()  # validation cases of each; none: the set has one split
    initial_decoder: str | None = None  # SHA-256 of SAM's decoder beside the manifest
    weights: dict[str, str] = field(default_factory=dict)  # source and license of the encoder's, where they are known

    @property
    def signature(self) -> Signature:
        """What a decoder's training set and any other set must agree in."""
        return Signature(self.encoder, self.input)

    @property
    def grid(self) -> int:
        """Cells a side of an embedding."""
        return self.embedding["shape"][-1]

    @property
    def input_size(self) -> int:
        """Pixels a side of the encoder's input."""
        return self.signature.input_size

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides what the set holds: scans, labels, split, settings, the encoder's numbers.

        A set of format 1, which does not know its cases by content, is known by its shards.
        """
        names = ("encoder", "input", "embedding", "settings", "folds")
        content = {name: getattr(self, name) for name in names} | {"split": asdict(self.split)}
        if self.cases:
            content["cases"] = {name: asdict(case) for name, case in self.cases.items()}
        else:
            content["shards"] = [shard.sha256 for shard in (*self.train, *self.val)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def scans(self, names: Sequence[str]) -> dict[str, str]:
        """SHA-256 of the scan of each of these cases; its name stands for it in a set of format 1."""
        known = {name: self.cases[name].imaging if name in self.cases else name for name in names}
        return {name: scan for name, scan in known.items() if name not in self.skipped}

    def of_fold(self, fold: int) -> "Manifest":
        """The same set with the split of a fold. The counts of strata are still those of all cases."""
        val = self.folds[fold]
        train = tuple(name for name in self.split.train if name not in val)
        voxels = [self.cases[name].voxels for name in train if name in self.cases]
        return replace(
            self,
            split=Split(train, val, self.split.seed),
            voxels=tuple(map(sum, zip(*voxels))),
            val=tuple(shard for shard in self.val if shard.case in val),
        )


def write_manifest(shards: Path, manifest: Manifest) -> None:
    write_sealed(shards / NAME, asdict(manifest))


def read_manifest(shards: str | Path, option: str = "--shards", source: Source | None = None) -> Manifest:
    """Read the manifest of the set in a folder or at an address, or from its `source` where that is open already.

    Raises `OptionError` naming `option` when there is no finished set, `ShardError` when the manifest is not valid.
    """
    source = source or open_source(shards, CacheConfig(), option)
    path = f"{shards}/{NAME}"
    with source.small_file(NAME) as file:
        if file is None:
            raise OptionError(
                f"{option}: no finished shard set in {shards}: no {NAME} (run `kitsam embed` again to finish it)"
            )
        content = read_json(file, ShardError, path)
    version = content.get("format") if isinstance(content, dict) else None
    if type(version) is not int or not OLDEST_FORMAT <= version <= FORMAT_VERSION:
        raise ShardError(f"{path}: not a shard set of format {OLDEST_FORMAT} to {FORMAT_VERSION}")
    check_seal(content, path, ShardError)
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
    """Raises `OptionError` naming the first setting in which `decoder`'s training set and `source` differ.

    Settings that only one of them names came with a later format and follow from the others.
    """
    for part in ("encoder", "input"):
        ours, theirs = getattr(expected, part), getattr(actual, part)
        for name in sorted(ours.keys() & theirs.keys()) if part == "encoder" else {**ours, **theirs}:
            if ours.get(name) != theirs.get(name):
                raise OptionError(
                    f"{source}: {part} {name} is {theirs.get(name)}, but {decoder} was trained with {ours.get(name)}"
                )
