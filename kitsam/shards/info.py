"""`kitsam shards info`: what a shard set holds, from its manifest alone."""

from rich.table import Table

from kitsam.ct.labels import CLASS_NAMES, TARGETS
from kitsam.shards.config import ShardsInfoConfig
from kitsam.shards.manifest import Manifest, ShardEntry, read_manifest
from kitsam.shards.order import holds
from kitsam.shards.source import open_source
from kitsam.system.console import say


def run(config: ShardsInfoConfig) -> int:
    source = open_source(config.shards, config.cache, config.option("shards"))
    manifest = read_manifest(config.shards, config.option("shards"), source)
    say(_origin(manifest))
    say(_strata(manifest))
    say(_balance(manifest))
    for target in TARGETS:
        if not any(count for stratum, count in manifest.strata.items() if holds(stratum, target)):
            say(f"no training slice of {target}: no {target} decoder can be trained on it")
    for name, reason in manifest.skipped.items():
        say(f"left out: {name}: {reason}")
    return 0


def _origin(manifest: Manifest) -> Table:
    table = Table(show_header=False, title="Shard set")
    encoder = manifest.encoder
    table.add_row(
        "encoder", f"{encoder['name']}, input {encoder['input_size']}, weights {encoder['weights_sha256'][:12]}..."
    )
    if manifest.weights:
        table.add_row("weights", f"{manifest.weights['license']}, {manifest.weights['source']}")
    table.add_row("input", ", ".join(f"{name} {value}" for name, value in manifest.input.items()))
    shape = " x ".join(map(str, manifest.embedding["shape"]))
    table.add_row("embedding", f"{shape} {manifest.embedding['dtype']}")
    table.add_row("views", str(manifest.settings["views"]["count"]))
    table.add_row("training", f"{len(manifest.split.train)} cases, {_size(manifest.train)}")
    table.add_row("validation", f"{len(manifest.split.val)} cases, {_size(manifest.val)}")
    return table


def _size(shards: tuple[ShardEntry, ...]) -> str:
    samples, size = sum(shard.samples for shard in shards), sum(shard.bytes for shard in shards)
    return f"{samples} samples in {len(shards)} shards, {size / 2**30:.2f} GiB"


def _strata(manifest: Manifest) -> Table:
    table = Table("stratum", "samples", "share", title="Training samples")
    total = sum(manifest.strata.values())
    for stratum, count in manifest.strata.items():
        table.add_row(stratum, str(count), f"{count / max(total, 1):.1%}")
    return table


def _balance(manifest: Manifest) -> Table:
    table = Table("class", "voxels", "share", title="Voxels of the training cases")
    total = sum(manifest.voxels)
    for name, count in zip(CLASS_NAMES, manifest.voxels):
        table.add_row(name, f"{count:,}", f"{count / total:.3%}")
    return table
