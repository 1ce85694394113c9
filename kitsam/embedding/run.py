"""Stage 1: cases -> slices -> embeddings -> shards.

The plan says which slices go to which shard; units of cases are dealt to the processes and embedded one after the
other; when all are there the manifest is merged from the sidecars. A process that is stopped loses at most the unit it
works on, and started again does only what is missing.

Cost: the encoder's time. Memory: three CT volumes and a few batches.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from kitsam.ct.case import CaseFiles, find_cases, paths_of, read_case
from kitsam.ct.config import InputConfig, ViewsConfig
from kitsam.ct.split import write_split
from kitsam.decoding.config import PromptConfig
from kitsam.embedding.config import EmbedConfig
from kitsam.embedding.dry_run import check_disk, print_forecast, sample_bytes
from kitsam.embedding.merge import merge, print_manifest
from kitsam.embedding.plan import READING_THREADS, Plan, Unit, count_samples, make_plan, unit_seal, units_of, write_plan
from kitsam.embedding.work import embed_units
from kitsam.sam.checkpoints import checkpoint_path, read_checkpoint
from kitsam.sam.encoder import Encoder, EncoderRecord, build_encoder
from kitsam.sam.encoding import SliceEncoder
from kitsam.shards.index import index_path
from kitsam.shards.manifest import INITIAL_DECODER, NAME, write_manifest
from kitsam.shards.units import PLAN, UNITS_FOLDER, read_unit, unit_path
from kitsam.system.compiling import compile_where_it_pays, seconds_per_batch
from kitsam.system.console import progress, say
from kitsam.system.coordination import decide, sole_writers, together
from kitsam.system.errors import CaseError, KitsamError, OptionError
from kitsam.system.files import look_anew, remove_leftovers, sha256_of
from kitsam.system.outputs import refuse_overwriting
from kitsam.system.pieces import Pieces
from kitsam.system.processes import deal, report_lost_peer, start_processes, use_bfloat16, use_cpu
from kitsam.system.tensors import write_tensors

SPLITS = "splits.json"


def run(config: EmbedConfig) -> int:
    processes = start_processes(config.device)
    with report_lost_peer():
        decide(lambda: _refuse_overwriting(config))
        if config.dry_run:
            return decide(lambda: _dry_run(config))
        with sole_writers(config.out):
            return _embed(config, processes)


def _refuse_overwriting(config: EmbedConfig) -> None:
    outputs = [config.out, *(config.out / name for name in (PLAN, NAME, SPLITS, INITIAL_DECODER))]
    given = [config.data, config.splits, config.encoder.checkpoint, *paths_of(find_cases(config.data))]
    refuse_overwriting(outputs, given)


def _embed(config: EmbedConfig, processes: PartialState) -> int:
    encoder, record = together(lambda: build_encoder(config.encoder))
    plan, files, missing_names = decide(lambda: _begin(config, processes.device, record))
    units = units_of(plan, config)
    missing = [unit for unit in units if unit.name in missing_names]
    share = deal([unit.samples for unit in missing], processes.num_processes)[processes.process_index]
    encode = _slice_encoder(encoder, config, processes.device)
    batches = math.ceil(count_samples(missing) / config.batch_size / processes.num_processes)
    if batches:
        encode.choose_attention(config.compile)
    compile_where_it_pays(encoder, config.compile, processes.device, encode.blank_batch, batches)
    if len(missing) < len(units):
        say(f"{count_samples(units) - count_samples(missing)} of {count_samples(units)} samples are there already")
    first_case = list(accumulate((len(unit.cases) for unit in missing), initial=0))
    _embed_units([(first_case[index], missing[index]) for index in share], files, encode, config, plan)
    return decide(lambda: _finish(config, plan, units, record))


def _begin(
    config: EmbedConfig, device: torch.device, record: EncoderRecord
) -> tuple[Plan, dict[str, CaseFiles], set[str]]:
    """The plan, the cases' files, and the names of the units that are still missing; the folder is made ready."""
    plan = make_plan(config, _settings(config, record, device))
    write_plan(config.out, plan, config)
    files = find_cases(config.data)
    units = units_of(plan, config)
    missing = [unit for unit in units if not is_finished(config.out, unit, plan, files)]
    check_scans(config.out, plan, [unit for unit in units if unit not in missing], files)
    _prepare_folder(config, plan, missing, record)
    return plan, files, {unit.name for unit in missing}


def _finish(config: EmbedConfig, plan: Plan, units: list[Unit], record: EncoderRecord) -> int:
    """Write the manifest. Returns the exit code."""
    look_anew(config.out, config.out / UNITS_FOLDER, config.out / "train", config.out / "val")
    manifest = merge(config.out, plan, units, record)
    write_manifest(config.out, manifest)
    print_manifest(config.out, manifest)
    return 1 if manifest.skipped else 0


def _slice_encoder(encoder: Encoder, config: EmbedConfig, device: torch.device) -> SliceEncoder:
    return SliceEncoder(encoder, config.input, use_bfloat16(config.precision, device), device, config.batch_size)


def _settings(config: EmbedConfig, record: EncoderRecord, device: torch.device) -> dict[str, Any]:
    """All that decides the content of the shards."""
    return {
        "encoder": asdict(record),
        "input": input_settings(config.input),
        "views": views_settings(config.views),
        "folds": config.folds,
        "val_fraction": config.val_fraction,
        "background_ratio": config.background_ratio,
        "group_cases": config.group_cases,
        "shard_samples": config.shard_samples,
        "storage": config.storage,
        "precision": "bf16" if use_bfloat16(config.precision, device) else "fp32",
        "keep_ct": config.keep_ct,
        "boxes": {"merge": PromptConfig.merge, "smallest": PromptConfig.smallest},
        "seed": config.seed,
    }


def views_settings(config: ViewsConfig) -> dict[str, Any]:
    """Of the changes that came later, those in use: sets without them stay what they are."""
    return {name: value for name, value in asdict(config).items() if value or name not in ("mirror", "shift")}


def input_settings(config: InputConfig) -> dict[str, Any]:
    """What is in use, as JSON keeps it; sets of whole slices, which were first, have no `crop`."""
    crop = {} if config.crop == "none" else {"crop": config.crop}
    if config.channels == "windows":
        return {"channels": config.channels, "windows": [list(window) for window in config.windows], **crop}
    return {"channels": config.channels, "window": list(config.window), **crop}


def is_finished(out: Path, unit: Unit, plan: Plan, files: dict[str, CaseFiles]) -> bool:
    """Whether the unit's shards are all there, by the same plan, and no case that was left out can be read now."""
    try:
        record = read_unit(out, unit.name)
    except KitsamError:
        return False
    complete = all((out / shard).exists() and index_path(out / shard).exists() for shard in record.shards)
    mended = any(_readable(files[name]) for name in record.skipped if name in files)
    return complete and record.plan == unit_seal(unit, plan) and not mended


def check_scans(out: Path, plan: Plan, units: list[Unit], files: dict[str, CaseFiles]) -> None:
    """Raises `OptionError` naming a scan that is not the one that finished units were made from. Reads all of them."""
    scans = [(files[name], scan) for unit in units for name, scan in read_unit(out, unit.name).scans.items()]
    with ThreadPoolExecutor(READING_THREADS) as threads, progress("Checking scans", len(scans), "scans") as tick:
        for (case, scan), current in zip(scans, threads.map(sha256_of, [case.imaging for case, _ in scans])):
            tick(1, case.name)
            if current != scan:
                raise OptionError(
                    f"--data: {case.imaging}: not the scan that {out} was made from: choose another --out"
                )


def _readable(files: CaseFiles) -> bool:
    try:
        read_case(files)
    except CaseError:
        return False
    return True


def _prepare_folder(config: EmbedConfig, plan: Plan, missing: list[Unit], record: EncoderRecord) -> None:
    """Check the disk, remove what a stopped start left of unfinished units, write what stands beside the shards."""
    check_disk(config.out, count_samples(missing) * sample_bytes(record, config.storage))
    if missing:
        # Unfinished from here on, whatever happens.
        (config.out / NAME).unlink(missing_ok=True)
    for unit in missing:
        for name in unit.shards:
            index_path(config.out / name).unlink(missing_ok=True)
            (config.out / name).unlink(missing_ok=True)
        unit_path(config.out, unit.name).unlink(missing_ok=True)
    remove_leftovers(config.out, "*/.tmp-*")
    write_split(config.out / SPLITS, plan.split)
    if config.encoder.name != "tiny" and not (config.out / INITIAL_DECODER).exists():
        state = read_checkpoint(checkpoint_path(config.encoder.name, config.encoder.checkpoint))
        weights = {k: v for k, v in state.items() if k.startswith(("mask_decoder.", "prompt_encoder."))}
        write_tensors(config.out / INITIAL_DECODER, weights)


def _embed_units(
    units: list[tuple[int, Unit]], files: dict[str, CaseFiles], encode: SliceEncoder, config: EmbedConfig, plan: Plan
) -> None:
    """Embed this process's share of the missing units, each with the number of its first case."""
    pieces = Pieces()
    with progress("Embedding", count_samples([unit for _, unit in units]), "slices") as tick:
        share = embed_units(units, files, encode, config, plan, tick, pieces)
    pieces.finish()
    if units:
        say(f"The encoder worked {share:.1%} of the time")


def _dry_run(config: EmbedConfig) -> int:
    """What would be embedded, how large it would be and how long it would take here."""
    record = EncoderRecord(config.encoder.name, "", config.encoder.side)
    plan = make_plan(config, _settings(config, record, torch.device("cpu" if use_cpu(config.device) else "cuda")))
    print_forecast(plan, config, record, _seconds_per_slice(config))
    return 1 if plan.skipped else 0


def _seconds_per_slice(config: EmbedConfig) -> float:
    """Measured with blank slices and the weights of a new encoder."""
    device = start_processes(config.device).device
    encode = _slice_encoder(Encoder(config.encoder.name, config.encoder.side), config, device)
    encode.choose_attention(config.compile)
    return seconds_per_batch(encode.blank_batch, device) / config.batch_size
