"""What is there already in the folder of a shard set, and what must not stay there.

Finished is what has a record that fits the plan, and files that the record names. All else of a unit is removed before
it is made again.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from kitsam.ct.case import CaseFiles, read_case, try_case
from kitsam.ct.split import write_split
from kitsam.embedding.config import EmbedConfig
from kitsam.embedding.dry_run import check_disk, sample_bytes
from kitsam.embedding.parts import clear_parts, find_parts, is_complete, part_folder
from kitsam.embedding.plan import READING_THREADS, Plan
from kitsam.embedding.shares import Span, count_slices, gaps
from kitsam.embedding.units import Unit, unit_seal, units_of
from kitsam.sam.checkpoints import checkpoint_path, read_checkpoint
from kitsam.sam.encoder import EncoderRecord
from kitsam.shards.index import index_path
from kitsam.shards.manifest import INITIAL_DECODER, NAME
from kitsam.shards.units import UnitRecord, read_unit, unit_path
from kitsam.system.console import progress
from kitsam.system.errors import CaseError, KitsamError, OptionError
from kitsam.system.files import remove_leftovers, sha256_of
from kitsam.system.tensors import write_tensors

SPLITS = "splits.json"


class Work(NamedTuple):
    """What there is to do."""

    plan: Plan
    files: dict[str, CaseFiles]
    missing: list[str]  # units, in order
    parts: dict[str, list[Span]]  # of each of them, what is there already


def make_ready(
    config: EmbedConfig, plan: Plan, files: dict[str, CaseFiles], record: EncoderRecord, processes: int
) -> Work:
    """Raises `OptionError` where what is there was made from other scans, `KitsamError` where the disk is too small."""
    units = units_of(plan, config)
    missing = [unit for unit in units if not is_finished(config.out, unit, plan, files)]
    parts = {unit.name: find_parts(config.out, unit, partial(_holds, unit, plan, files)) for unit in missing}
    finished = [(config.out, unit) for unit in units if unit not in missing]
    in_part = [(part_folder(config.out, span), unit) for unit in missing for span in parts[unit.name]]
    check_scans(config.out, [read_unit(folder, unit.name).scans for folder, unit in finished + in_part], files)
    line = [gap for unit in missing for gap in gaps(unit, parts[unit.name])]
    samples = count_slices(line, {unit.name: unit for unit in missing})
    joined_at_once = min(samples, processes * config.shard_samples) if processes > 1 else 0
    check_disk(config.out, (samples + joined_at_once) * sample_bytes(record, config.storage))
    _remove_unfinished(config.out, missing, parts)
    write_split(config.out / SPLITS, plan.split)
    _write_initial_decoder(config)
    return Work(plan, files, [unit.name for unit in missing], parts)


def is_finished(out: Path, unit: Unit, plan: Plan, files: dict[str, CaseFiles]) -> bool:
    """Whether the unit's shards are all there, by the same plan, and no case that was left out can be read now."""
    try:
        record = read_unit(out, unit.name)
    except KitsamError:
        return False
    return all(is_complete(out / shard) for shard in record.shards) and _holds(unit, plan, files, record)


def _holds(unit: Unit, plan: Plan, files: dict[str, CaseFiles], record: UnitRecord) -> bool:
    """Whether a record is by the same plan, and no case that was left out can be read now."""
    retried = [try_case(read_case, files[name]) for name in record.skipped if name in files]
    mended = not all(isinstance(result, CaseError) for result in retried)
    return record.plan == unit_seal(unit, plan) and not mended


def check_scans(out: Path, done: list[dict[str, str]], files: dict[str, CaseFiles]) -> None:
    """Raises `OptionError` naming a scan that is not the one that was embedded. Reads all of them.

    `done`: cases and their scans' SHA-256, of what is finished.
    """
    scans = [(files[name], scan) for part in done for name, scan in part.items()]
    with ThreadPoolExecutor(READING_THREADS) as threads, progress("Checking scans", len(scans), "scans") as tick:
        for (case, scan), current in zip(scans, threads.map(sha256_of, [case.imaging for case, _ in scans])):
            tick(1, case.name)
            if current != scan:
                raise OptionError(
                    f"--data: {case.imaging}: not the scan that {out} was made from: choose another --out"
                )


def _remove_unfinished(out: Path, missing: list[Unit], parts: dict[str, list[Span]]) -> None:
    if missing:
        # Unfinished from here on, whatever happens.
        (out / NAME).unlink(missing_ok=True)
    for unit in missing:
        if list(gaps(unit, parts[unit.name])):  # otherwise its shards, as far as they are there, are joined already
            for name in unit.shards:
                index_path(out / name).unlink(missing_ok=True)
                (out / name).unlink(missing_ok=True)
        unit_path(out, unit.name).unlink(missing_ok=True)
    clear_parts(out, [span for spans in parts.values() for span in spans])
    remove_leftovers(out, "*/.tmp-*")


def _write_initial_decoder(config: EmbedConfig) -> None:
    if config.encoder.name != "tiny" and not (config.out / INITIAL_DECODER).exists():
        state = read_checkpoint(checkpoint_path(config.encoder.name, config.encoder.checkpoint))
        weights = {k: v for k, v in state.items() if k.startswith(("mask_decoder.", "prompt_encoder."))}
        write_tensors(config.out / INITIAL_DECODER, weights)
