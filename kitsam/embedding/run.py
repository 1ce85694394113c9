"""Stage 1: cases -> slices -> embeddings -> shards.

The plan says which slices go to which shard; units of cases are dealt to the processes and embedded one after the
other; when all are there the manifest is merged from the sidecars. A process that is stopped loses at most the unit it
works on, and started again does only what is missing.

Cost: the encoder's time. Memory: three CT volumes and a few batches.
"""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from kitsam.ct.case import CaseFiles, find_cases, read_case
from kitsam.ct.config import InputConfig
from kitsam.ct.split import write_split
from kitsam.embedding.config import EmbedConfig
from kitsam.embedding.dry_run import check_disk, print_forecast, sample_bytes
from kitsam.embedding.merge import merge, print_manifest
from kitsam.embedding.plan import Plan, Unit, count_samples, make_plan, read_plan, unit_contents, units_of, write_plan
from kitsam.embedding.work import embed_units
from kitsam.sam.checkpoints import checkpoint_path, read_checkpoint
from kitsam.sam.encoder import Encoder, EncoderRecord, build_encoder
from kitsam.sam.encoding import SliceEncoder
from kitsam.shards.index import index_path, read_index
from kitsam.shards.manifest import INITIAL_DECODER, write_manifest
from kitsam.system.compiling import compile_where_it_pays, seconds_per_batch
from kitsam.system.console import progress, say
from kitsam.system.errors import CaseError, KitsamError
from kitsam.system.processes import deal, report_lost_peer, start_processes, use_bfloat16
from kitsam.system.tensors import write_tensors


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
    share = deal([unit.samples for unit in missing], processes.num_processes)[processes.process_index]
    encode = _slice_encoder(encoder, config, processes.device)
    batches = math.ceil(count_samples(missing) / config.batch_size / processes.num_processes)
    compile_where_it_pays(encoder, config.compile, processes.device, encode.blank_batch, batches)
    if len(missing) < len(units):
        say(f"{count_samples(units) - count_samples(missing)} of {count_samples(units)} samples are there already")
    _embed_units([missing[index] for index in share], files, encode, config)
    processes.wait_for_everyone()
    skipped = dict(plan.skipped)
    if processes.is_main_process:
        manifest = merge(config.out, plan, units, record)
        write_manifest(config.out, manifest)
        skipped = manifest.skipped
        print_manifest(config.out, manifest)
    processes.wait_for_everyone()
    return 1 if skipped else 0


def _slice_encoder(encoder: Encoder, config: EmbedConfig, device: torch.device) -> SliceEncoder:
    return SliceEncoder(encoder, config.input, use_bfloat16(config.precision, device), device, config.batch_size)


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
    """Whether the unit's shards are all there, by the same plan, and no case that was left out can be read now."""
    for name in unit.shards:
        if not index_path(out / name).exists():
            continue
        try:
            record = read_index(out / name).unit
        except KitsamError:
            return False
        complete = all((out / shard).exists() and index_path(out / shard).exists() for shard in record.shards)
        mended = any(_readable(files[name]) for name in record.skipped if name in files)
        return complete and record.planned == unit_contents(unit) and not mended
    return False


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


def _embed_units(units: list[Unit], files: dict[str, CaseFiles], encode: SliceEncoder, config: EmbedConfig) -> None:
    with progress("Embedding", count_samples(units), "slices") as tick:
        share = embed_units(units, files, encode, config, tick)
    if units:
        say(f"The encoder worked {share:.1%} of the time")


def _dry_run(config: EmbedConfig) -> int:
    """What would be embedded, how large it would be and how long it would take here."""
    record = EncoderRecord(config.encoder.name, "", config.encoder.input_size)
    plan = make_plan(config, _settings(config, record))
    print_forecast(plan, config, record, _seconds_per_slice(config))
    return 1 if plan.skipped else 0


def _seconds_per_slice(config: EmbedConfig) -> float:
    """Measured with blank slices and the weights of a new encoder."""
    device = start_processes(config.device).device
    encode = _slice_encoder(Encoder(config.encoder.name, config.encoder.input_size), config, device)
    return seconds_per_batch(encode.blank_batch, device) / config.batch_size
