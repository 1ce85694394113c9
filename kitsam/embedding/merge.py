"""The manifest of a shard set, from the plan and the sidecars of its shards."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.table import Table

from kitsam import __version__
from kitsam.embedding.plan import Plan, Unit
from kitsam.sam.encoder import EMBEDDING_CHANNELS, EncoderRecord
from kitsam.shards.index import ShardIndex, index_path, read_index
from kitsam.shards.manifest import FORMAT_VERSION, Manifest, ShardEntry, count_strata
from kitsam.system.console import say, size_text, warn
from kitsam.system.errors import ShardError


def merge(out: Path, plan: Plan, units: list[Unit], record: EncoderRecord) -> Manifest:
    """The manifest, from the sidecars alone; safe to repeat."""
    names = [name for unit in units for name in unit.shards if index_path(out / name).exists()]
    shards = {name: read_index(out / name) for name in sorted(names)}
    skipped = dict(plan.skipped)
    for name in names:
        skipped.update(shards[name].unit.skipped)
    entries = [_entry(name, index) for name, index in shards.items()]
    train = tuple(entry for entry in entries if entry.stratum)
    val = tuple(entry for entry in entries if not entry.stratum)
    if not train or not val:
        side = "training" if val else "validation"
        raise ShardError(f"{out}: no case could be embedded for {side}: {'; '.join(skipped.values())}")
    voxels = [case.voxels for name, case in plan.cases.items() if name in plan.split.train and name not in skipped]
    settings = {key: value for key, value in plan.settings.items() if key not in ("encoder", "input", "storage")}
    return Manifest(
        format=FORMAT_VERSION,
        kitsam=__version__,
        encoder=asdict(record),
        input=plan.settings["input"],
        embedding={"dtype": plan.settings["storage"], "shape": [EMBEDDING_CHANNELS, record.grid, record.grid]},
        settings=settings,
        split=plan.split,
        skipped=dict(sorted(skipped.items())),
        voxels=tuple(np.sum(voxels, axis=0).tolist()),
        strata=count_strata(train),
        train=train,
        val=val,
    )


def _entry(name: str, index: ShardIndex) -> ShardEntry:
    part, file = name.split("/")
    stratum = file.split("-")[0] if part == "train" else None
    return ShardEntry(name, stratum, len(index.samples), index.bytes, index.sha256)


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
