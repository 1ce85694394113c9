"""The manifest of a shard set, from its plan, what is kept of its units of work, and the sidecars of its shards."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.table import Table

from kitsam import __version__
from kitsam.embedding.plan import Plan
from kitsam.embedding.units import Unit
from kitsam.sam.checkpoints import origin_of
from kitsam.sam.encoder import EMBEDDING_CHANNELS, EncoderRecord
from kitsam.shards.index import index_path, read_index
from kitsam.shards.manifest import FORMAT_VERSION, INITIAL_DECODER, CaseEntry, Manifest, ShardEntry, count_strata
from kitsam.shards.units import read_unit
from kitsam.system.console import say, size_text, warn
from kitsam.system.errors import ShardError
from kitsam.system.files import sha256_of


def merge(out: Path, plan: Plan, units: list[Unit], record: EncoderRecord) -> Manifest:
    """The manifest, from what is kept of each unit and its shards; safe to repeat.

    Raises `ShardError` where the record of a unit, a shard or its sidecar is missing, or no case could be embedded for
    training or for validation.
    """
    kept = [read_unit(out, unit.name) for unit in units]
    skipped = dict(plan.skipped)
    scans: dict[str, str] = {}
    for unit in kept:
        skipped.update(unit.skipped)
        scans.update(unit.scans)
    entries = [_entry(out, name) for name in sorted(name for unit in kept for name in unit.shards)]
    train = tuple(entry for entry in entries if entry.stratum)
    val = tuple(entry for entry in entries if not entry.stratum)
    if not train or not val:
        side = "training" if val else "validation"
        raise ShardError(f"{out}: no case could be embedded for {side}: {'; '.join(skipped.values())}")
    cases = {
        name: CaseEntry(scans[name], case.segmentation, case.voxels)
        for name, case in sorted(plan.cases.items())
        if name in scans
    }
    voxels = [cases[name].voxels for name in plan.split.train if name in cases]
    origin = origin_of(record.name, record.weights_sha256)
    apart = ("encoder", "input", "storage", "precision", "folds")
    return Manifest(
        format=FORMAT_VERSION,
        kitsam=__version__,
        encoder=asdict(record),
        input=plan.settings["input"],
        embedding={
            "dtype": plan.settings["storage"],
            "shape": [EMBEDDING_CHANNELS, record.grid, record.grid],
            "precision": plan.settings["precision"],
        },
        settings={key: value for key, value in plan.settings.items() if key not in apart},
        split=plan.split,
        skipped=dict(sorted(skipped.items())),
        voxels=tuple(np.sum(voxels, axis=0).tolist()),
        strata=count_strata(train),
        train=train,
        val=val,
        cases=cases,
        folds=plan.folds,
        initial_decoder=sha256_of(out / INITIAL_DECODER) if (out / INITIAL_DECODER).exists() else None,
        weights=asdict(origin) if origin else {},
    )


def _entry(out: Path, name: str) -> ShardEntry:
    part, file = name.split("/")
    stratum = file.split("-")[0] if part == "train" else None
    if not (out / name).is_file():
        raise ShardError(f"{out / name}: missing: run the same command again")
    index = read_index(out / name)
    return ShardEntry(name, stratum, len(index.samples), index.bytes, index.sha256, sha256_of(index_path(out / name)))


def print_manifest(out: Path, manifest: Manifest) -> None:
    """Samples of each stratum, the size of the set, and the cases that were left out."""
    table = Table("stratum", "samples", title="Training samples")
    table.columns[1].justify = "right"
    for stratum, count in manifest.strata.items():
        table.add_row(stratum, str(count))
    say(table)
    shards = (*manifest.train, *manifest.val)
    size = sum(shard.bytes for shard in shards)
    say(f"{sum(shard.samples for shard in shards)} samples in {len(shards)} shards, {size_text(size)}: {out}")
    for name, reason in manifest.skipped.items():
        warn(f"{name} was left out: {reason}")
