"""Stage 1: cases -> slices -> embeddings -> shards.

The plan says which slices go to which shard; units of cases are dealt to the processes and embedded one after the
other; when all are there the manifest is merged from the sidecars. A process that is stopped loses at most the unit it works
on, and started again does only what is missing.

Cost: the encoder's time. Memory: three CT volumes and a few batches.
"""

import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from rich.table import Table

from kitsam import __version__
from kitsam.ct.case import CaseFiles, find_cases, read_case
from kitsam.ct.config import InputConfig
from kitsam.ct.split import write_split
from kitsam.embedding.config import EmbedConfig
from kitsam.embedding.plan import Plan, Unit, make_plan, read_plan, unit_fingerprint, units_of, write_plan
from kitsam.embedding.work import embed_units
from kitsam.sam.encoder import EMBEDDING_CHANNELS, Encoder, EncoderRecord, build_encoder
from kitsam.sam.encoding import SliceEncoder
from kitsam.sam.weights import checkpoint_path, read_checkpoint
from kitsam.shards.config import Storage
from kitsam.shards.index import ShardIndex, UnitRecord, index_path, read_index
from kitsam.shards.manifest import FORMAT_VERSION, INITIAL_DECODER, Manifest, ShardEntry, count_strata, write_manifest
from kitsam.system.compiling import compile_where_it_pays, seconds_per_batch
from kitsam.system.console import progress, say, warn
from kitsam.system.errors import CaseError, KitsamError, ShardError
from kitsam.system.processes import deal, report_lost_peer, start_processes, use_bfloat16
from kitsam.system.tensors import write_tensors

SAMPLE_OVERHEAD = 6 * 1024  # bytes of headers, record, mask and index per sample, about


def run(config: EmbedConfig) -> int:
    processes = start_processes(config.device)
    if config.dry_run:
        return _dry_run(config)
    with report_lost_peer():
        return _embed(config, processes)


def _embed(config: EmbedConfig, processes: PartialState) -> int:
    encoder, record = build_encoder(config.encoder)
    settings = _settings(config, record)
    with processes.main_process_first():
        if processes.is_main_process:
            write_plan(config.out, make_plan(config, settings))
        plan = read_plan(config.out)
    files = find_cases(config.data)
    units = units_of(plan, config)
    missing = [unit for unit in units if not is_finished(config.out, unit, files)]
    if processes.is_main_process:
        _prepare_folder(config, plan, missing, record)
    processes.wait_for_everyone()
    mine = deal([unit.samples for unit in missing], processes.num_processes)[processes.process_index]
    encode = _slice_encoder(encoder, config, processes.device)
    my_units = [missing[index] for index in mine]
    batches = math.ceil(count_samples(missing) / config.batch_size / processes.num_processes)
    compile_where_it_pays(encoder, config.compile, processes.device, encode.blank_batch, batches)
    _embed_units(my_units, files, encode, config, count_samples(missing), count_samples(units))
    processes.wait_for_everyone()
    skipped = dict(plan.skipped)
    if processes.is_main_process:
        manifest = merge(config.out, plan, units, record)
        write_manifest(config.out, manifest)
        skipped = manifest.skipped
        _summarize(config.out, manifest)
    processes.wait_for_everyone()
    return 1 if skipped else 0


def _slice_encoder(encoder: Encoder, config: EmbedConfig, device: torch.device) -> SliceEncoder:
    return SliceEncoder(encoder, config.input, use_bfloat16(config.precision, device), device, config.batch_size)


def count_samples(units: list[Unit]) -> int:
    return sum(unit.samples for unit in units)


def _settings(config: EmbedConfig, record: EncoderRecord) -> dict[str, Any]:
    """All that decides the content of the shards."""
    return {
        "encoder": asdict(record),
        "input": input_settings(config.input),
        "views": asdict(config.views),
        "splits": str(config.splits) if config.splits else None,
        "val_fraction": config.val_fraction,
        "background_ratio": config.background_ratio,
        "group_cases": config.group_cases,
        "shard_samples": config.shard_samples,
        "storage": config.storage,
        "seed": config.seed,
    }


def input_settings(config: InputConfig) -> dict[str, Any]:
    """The HU windows in use, as JSON keeps them."""
    if config.channels == "windows":
        return {"channels": config.channels, "windows": [list(window) for window in config.windows]}
    return {"channels": config.channels, "window": list(config.window)}


def is_finished(out: Path, unit: Unit, files: dict[str, CaseFiles]) -> bool:
    """Every shard of the unit is there with its sidecar, made from the same plan, and no case it left out has been mended."""
    for name in unit.shards:
        if not index_path(out / name).exists():
            continue
        try:
            record = read_index(out / name).unit
        except KitsamError:
            return False
        complete = all((out / shard).exists() and index_path(out / shard).exists() for shard in record.shards)
        return (
            complete and record.planned == unit_fingerprint(unit) and not any(map(_readable, _left_out(record, files)))
        )
    return False


def _left_out(record: UnitRecord, files: dict[str, CaseFiles]) -> list[CaseFiles]:
    return [files[name] for name in record.skipped if name in files]


def _readable(files: CaseFiles) -> bool:
    try:
        read_case(files)
    except CaseError:
        return False
    return True


def _prepare_folder(config: EmbedConfig, plan: Plan, missing: list[Unit], record: EncoderRecord) -> None:
    """Check the disk, remove what a stopped start left of unfinished units, write what stands beside the shards."""
    check_disk(config.out, count_samples(missing) * sample_bytes(record, config.storage))
    for unit in missing:
        for name in unit.shards:
            index_path(config.out / name).unlink(missing_ok=True)
            (config.out / name).unlink(missing_ok=True)
    for leftover in config.out.glob("*/.tmp-*"):
        leftover.unlink()
    write_split(config.out / "splits.json", plan.split)
    if config.encoder.name != "tiny" and not (config.out / INITIAL_DECODER).exists():
        state = read_checkpoint(checkpoint_path(config.encoder.name, config.encoder.checkpoint))
        weights = {k: v for k, v in state.items() if k.startswith(("mask_decoder.", "prompt_encoder."))}
        write_tensors(config.out / INITIAL_DECODER, weights)


def sample_bytes(record: EncoderRecord, storage: Storage) -> int:
    return EMBEDDING_CHANNELS * record.grid**2 * np.dtype(storage).itemsize + SAMPLE_OVERHEAD


def check_disk(out: Path, needed: int) -> None:
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise KitsamError(
            f"{out}: the shard set needs {_readable_size(needed)}, the disk has {_readable_size(free)} free"
        )


def _readable_size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _embed_units(
    units: list[Unit], files: dict[str, CaseFiles], encode: SliceEncoder, config: EmbedConfig, missing: int, total: int
) -> None:
    if missing < total:
        say(f"{total - missing} of {total} samples are there already")
    with progress("Embedding", count_samples(units), "slices") as tick:
        share = embed_units(units, files, encode, config, tick)
    if units:
        say(f"The encoder worked {share:.1%} of the time")


def merge(out: Path, plan: Plan, units: list[Unit], record: EncoderRecord) -> Manifest:
    """The manifest, from the sidecars alone; safe to repeat."""
    shards: dict[str, ShardIndex] = {}
    for unit in units:
        found = [name for name in unit.shards if index_path(out / name).exists()]
        shards.update({name: read_index(out / name) for name in found})
    skipped = dict(plan.skipped)
    for index in shards.values():
        skipped.update(index.unit.skipped)
    entries = [
        ShardEntry(
            name,
            name.split("/")[1].split("-")[0] if name.startswith("train/") else None,
            len(index.samples),
            index.bytes,
            index.sha256,
        )
        for name, index in sorted(shards.items())
    ]
    train = tuple(entry for entry in entries if entry.stratum)
    val = tuple(entry for entry in entries if not entry.stratum)
    if not train or not val:
        raise ShardError(
            f"{out}: no case could be embedded for {'training' if val else 'validation'}: {'; '.join(skipped.values())}"
        )
    used = [case.voxels for name, case in plan.cases.items() if name in plan.split.train and name not in skipped]
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
        voxels=tuple(np.sum(used, axis=0).tolist()),
        strata=count_strata(train),
        train=train,
        val=val,
    )


def _summarize(out: Path, manifest: Manifest) -> None:
    table = Table("stratum", "samples", title="Training samples")
    table.columns[1].justify = "right"
    for stratum, count in manifest.strata.items():
        table.add_row(stratum, str(count))
    say(table)
    shards = (*manifest.train, *manifest.val)
    size = sum(shard.bytes for shard in shards)
    say(f"{sum(shard.samples for shard in shards)} samples in {len(shards)} shards, {_readable_size(size)}: {out}")
    for name, reason in manifest.skipped.items():
        warn(f"{name} was left out: {reason}")


def _dry_run(config: EmbedConfig) -> int:
    """What would be embedded, how large it would be and how long it would take here."""
    grid = EncoderRecord(config.encoder.name, "", config.encoder.input_size)
    plan = make_plan(config, _settings(config, grid))
    units = units_of(plan, config)
    seconds = _seconds_per_slice(config)
    samples = count_samples(units)
    table = Table("", "", show_header=False, title="What kitsam embed would write")
    table.add_row("cases", f"{len(plan.split.train)} training, {len(plan.split.val)} validation")
    table.add_row("slices", f"{samples} (training: {config.views.count} view{'s' * (config.views.count > 1)} of each)")
    table.add_row("shards", str(sum(len(unit.shards) for unit in units)))
    table.add_row(
        "bytes",
        f"{samples * sample_bytes(grid, config.storage):,} ({_readable_size(samples * sample_bytes(grid, config.storage))})",
    )
    table.add_row("time", f"{samples * seconds / 60:.1f} min with one process here ({seconds:.2f} s a slice)")
    say(table)
    for name, reason in plan.skipped.items():
        warn(f"{name} would be left out: {reason}")
    check_disk(config.out, samples * sample_bytes(grid, config.storage))
    say("Nothing was written.")
    return 1 if plan.skipped else 0


def _seconds_per_slice(config: EmbedConfig) -> float:
    """With weights as they are before loading."""
    device = start_processes(config.device).device
    encode = _slice_encoder(Encoder(config.encoder.name, config.encoder.input_size), config, device)
    return seconds_per_batch(encode.blank_batch, device) / config.batch_size
