"""A run's folder: what is saved in it, and how a run goes on from it.

`decoding/runs.py` names the files that others use; another configuration in the same folder is refused.
`checkpoints/step-NNNNNN/` holds what Accelerate saves (weights, optimizer) and `state.json`; it is written under a
temporary name and renamed by the main process when all processes are done.
"""

import errno
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import yaml
from accelerate import Accelerator
from safetensors import SafetensorError

from kitsam.decoding.records import CONFIG, SHARD_SET, ShardSetRecord
from kitsam.shards.manifest import check_signature
from kitsam.system.coordination import decide
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import flush_file, flush_folder, read_yaml, sha256_of, write_json, write_text
from kitsam.system.options import as_plain, fixed_options
from kitsam.system.records import read_record
from kitsam.system.seals import SEAL, read_sealed, write_sealed
from kitsam.training.config import TrainConfig
from kitsam.training.prolonging import Schedule, prolong

CHECKPOINTS, STEP, STATE, DIGESTS = "checkpoints", "step-", "state.json", "digests.json"
SMALLEST_FREE = 1 << 20  # bytes; a disk with less is full


@dataclass
class Progress:
    """Where a run stands; the content of `state.json`."""

    step: int = 0  # optimizer steps done
    best_step: int = -1
    best_dice: float = -1.0
    stale: int = 0  # validations since the best one
    finished: bool = False
    digests: bool = False  # whether the checkpoint has digests of its files


def open_run(config: TrainConfig, shard_set: ShardSetRecord) -> Schedule:
    """Make the run's folder, or check that the run in it is the same one, on the same shard set; this one alone writes.

    Raises `OptionError` naming the first option in which they differ, or fewer steps than the run has.
    """
    options = as_plain(config)
    path = config.out / CONFIG
    for leftover in (config.out / CHECKPOINTS).glob(".tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if path.exists():
        earlier = read_yaml(path)
        if not isinstance(earlier, dict):
            raise KitsamError(f"{path}: damaged: holds no options")
        if type(earlier.get("steps")) is not int:
            raise KitsamError(f"{path}: damaged: steps must be a whole number, not {earlier.get('steps')}")
        if earlier.get("precision") == "auto":
            earlier["precision"] = options["precision"]  # an older version kept the word and not what it took
        earlier.setdefault("detail", False)  # an older version had no such networks
        for name in fixed_options(config):
            if earlier.get(name) != options[name]:
                there = f"{config.out} holds a run with {earlier.get(name)}"
                raise OptionError(f"--{name}: {there}, not {options[name]}: choose another --out")
        _check_shard_set(config, read_sealed(config.out / SHARD_SET, ShardSetRecord), shard_set)
        folders = checkpoints(config.out)
        schedule = prolong(config, earlier["steps"], _step_of(folders[-1]) if folders else 0)
    else:
        schedule = Schedule((config.steps,))
        write_sealed(config.out / SHARD_SET, asdict(shard_set))
    write_text(path, yaml.safe_dump(options, sort_keys=False))
    return schedule


def _check_shard_set(config: TrainConfig, earlier: ShardSetRecord, shard_set: ShardSetRecord) -> None:
    if earlier.fingerprint is None:
        check_signature(earlier.signature, shard_set.signature, config.out, config.shards)
    elif earlier.fingerprint != shard_set.fingerprint:
        raise OptionError(
            f"--shards: {config.out} holds a run on another shard set: other scans, labels, split or settings "
            f"(fingerprint {earlier.fingerprint[:12]}..., now {shard_set.fingerprint[:12]}...): choose another --out"
        )


def save_checkpoint(accelerator: Accelerator, out: Path, progress: Progress, keep: int) -> None:
    """Write what a run needs to go on; the last `keep` checkpoints stay. Raises `KitsamError` for a full disk."""
    folder = out / CHECKPOINTS / f"{STEP}{progress.step:06d}"
    temporary = decide(lambda: _new_folder(folder))
    try:
        accelerator.save_state(str(temporary))
        if accelerator.is_main_process:
            write_json(temporary / STATE, asdict(replace(progress, digests=True)))
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch.save says of a write that failed only at which position of its archive that was.
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise
        full = shutil.disk_usage(out).free < SMALLEST_FREE
        shutil.rmtree(temporary, ignore_errors=True)
        raise KitsamError(f"{folder}: cannot be written: {os.strerror(errno.ENOSPC) if full else error}") from error
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_sealed(temporary / DIGESTS, _digests(temporary))
        _flush(temporary)
        _put_in_place(temporary, folder)
        flush_folder(folder.parent)
        for old in checkpoints(out)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def _new_folder(folder: Path) -> Path:
    """A temporary one beside `folder`; what a killed start left may be where no listing shows it yet."""
    number = 0
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        while True:
            temporary = folder.with_name(f".tmp-{number}-{folder.name}")
            with suppress(FileExistsError):
                temporary.mkdir()
                return temporary
            number += 1
    except OSError as error:
        raise KitsamError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Rename, also where a checkpoint of the same step is there already: a run may have gone on from an older one."""
    before = folder.with_name(f".tmp-before-{folder.name}")
    shutil.rmtree(before, ignore_errors=True)
    if folder.exists():
        folder.rename(before)
    temporary.rename(folder)
    shutil.rmtree(before, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Bring a checkpoint to the disk, with the mode of new files: safetensors' own let nobody else read them."""
    mode = folder.stat().st_mode & 0o666  # a new folder's, without the right to enter it
    try:
        for path in folder.iterdir():
            flush_file(path, mode)
        flush_folder(folder)
    except OSError as error:
        raise KitsamError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a checkpoint."""
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.name != DIGESTS}


def _check_digests(folder: Path) -> None:
    """Raises `KitsamError` naming a file of a checkpoint that is missing or damaged."""
    if not (folder / DIGESTS).exists() and not read_record(folder / STATE, Progress).digests:
        return  # an older version's
    content = read_sealed(folder / DIGESTS, dict[str, str])
    actual = _digests(folder)
    for name, digest in content.items():
        if name != SEAL and actual.get(name) != digest:
            raise KitsamError(
                f"{folder / name}: missing or damaged: remove {folder} to go on from the checkpoint before it"
            )


def checkpoints(out: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    folders = (out / CHECKPOINTS).glob(f"{STEP}*")
    return sorted((path for path in folders if path.name.removeprefix(STEP).isdecimal()), key=_step_of)


def _step_of(folder: Path) -> int:
    """Steps done at a checkpoint."""
    return int(folder.name.removeprefix(STEP))


def is_finished(out: Path) -> bool:
    """Whether the run has come to the end of the steps that it was last given."""
    folders = checkpoints(out)
    return bool(folders) and read_record(folders[-1] / STATE, Progress).finished


class LastCheckpoint(NamedTuple):
    """Where a run goes on."""

    folder: Path | None
    progress: Progress


def last_checkpoint(out: Path, schedule: Schedule) -> LastCheckpoint:
    """One of a finished run that was prolonged since is no longer the end, and validations without a better one count
    anew.

    Raises `KitsamError` naming a file of it that is missing or damaged.
    """
    folders = checkpoints(out)
    if not folders:
        return LastCheckpoint(None, Progress())
    _check_digests(folders[-1])
    progress = read_record(folders[-1] / STATE, Progress)
    if progress.finished and progress.step <= schedule.prolonged_at:
        progress = replace(progress, finished=False, stale=0)
    return LastCheckpoint(folders[-1], progress)


def load_checkpoint(accelerator: Accelerator, folder: Path) -> None:
    """Bring model and optimizer of this process to a checkpoint."""
    try:
        accelerator.load_state(str(folder))
    except OSError as error:
        raise KitsamError(f"{folder}: cannot be read: {error}") from error
