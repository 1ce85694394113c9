"""How large a shard set will be, and what `kitsam embed --dry-run` prints of it."""

import shutil
from pathlib import Path

import numpy as np
from rich.table import Table

from kitsam.embedding.config import EmbedConfig
from kitsam.embedding.plan import Plan
from kitsam.embedding.shares import Span, count_slices, share_out
from kitsam.embedding.units import Unit, count_samples, units_of
from kitsam.sam.encoder import EMBEDDING_CHANNELS, EncoderRecord
from kitsam.shards.config import Storage
from kitsam.system.console import say, size_text, warn
from kitsam.system.errors import KitsamError
from kitsam.system.shares import balance

SAMPLE_OVERHEAD = 6 * 1024  # bytes of headers, record, mask and index per sample, about


def sample_bytes(record: EncoderRecord, storage: Storage) -> int:
    """Bytes that a sample takes on disk, about."""
    return EMBEDDING_CHANNELS * record.grid**2 * np.dtype(storage).itemsize + SAMPLE_OVERHEAD


def check_disk(out: Path, needed: int) -> None:
    """Raises `KitsamError` where the disk has less than `needed` bytes free."""
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise KitsamError(f"{out}: the shard set needs {size_text(needed)}, the disk has {size_text(free)} free")


def even_shares(units: list[Unit], batch_size: int, processes: int) -> list[int]:
    """Slices of each process where all units are to be made."""
    by_name = {unit.name: unit for unit in units}
    line = [Span(unit.name, 0, len(unit.members)) for unit in units]
    return [count_slices(hand, by_name) for hand in share_out(line, by_name, batch_size, processes)]


def print_forecast(plan: Plan, config: EmbedConfig, record: EncoderRecord, seconds: float) -> None:
    """What would be written, at `seconds` a slice. Raises `KitsamError` where the disk is too small."""
    units = units_of(plan, config)
    shares = even_shares(units, config.batch_size, config.processes)
    samples = count_samples(units)
    size = samples * sample_bytes(record, config.storage)
    views = f"{config.views.count} view{'s' * (config.views.count > 1)}"
    table = Table("", "", show_header=False, title="What kitsam embed would write")
    table.add_row("cases", f"{len(plan.split.train)} training, {len(plan.split.val)} validation")
    table.add_row("slices", f"{samples} (training: {views} of each)")
    table.add_row("shards", str(sum(len(unit.shards) for unit in units)))
    table.add_row("bytes", f"{size:,} ({size_text(size)})")
    who = "one process" if config.processes == 1 else f"{config.processes} processes like one"
    table.add_row("time", f"{max(shares) * seconds / 60:.1f} min with {who} here ({seconds:.2f} s a slice)")
    if config.processes > 1:
        table.add_row("balance", f"{balance(shares):.1%} of ideal: the largest share is {max(shares)} slices")
    say(table)
    for name, reason in plan.skipped.items():
        warn(f"{name} would be left out: {reason}")
    check_disk(config.out, size)
    say("Nothing was written.")
