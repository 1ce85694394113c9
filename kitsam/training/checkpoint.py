"""A run's folder: what is saved in it, and how a run goes on from it.

`decoding/runs.py` names the files that others use; another configuration in the same folder is refused.
`checkpoints/step-NNNNNN/` holds what Accelerate saves (weights, optimizer) and `state.json`; it is written under a
temporary name and renamed by the main process when all processes are done.
"""

import errno
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from accelerate import Accelerator
from safetensors import SafetensorError

from kitsam.decoding.runs import CONFIG, DECODER, SHARD_SET, ShardSetRecord
from kitsam.sam.decoder import BoxDecoder
from kitsam.shards.manifest import Manifest
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import write_json, write_text
from kitsam.system.options import as_plain, fixed_options
from kitsam.system.records import read_record
from kitsam.system.tensors import write_tensors
from kitsam.training.config import TrainConfig

CHECKPOINTS, STATE = "checkpoints", "state.json"
SMALLEST_FREE = 1 << 20  # bytes; a disk with less is full


@dataclass
class Progress:
    """Where a run stands; the content of `state.json`."""

    step: int = 0  # optimizer steps done
    best_step: int = -1
    best_dice: float = -1.0
    stale: int = 0  # validations since the best one
    finished: bool = False


def open_run(config: TrainConfig, manifest: Manifest) -> None:
    """Make the run's folder, or check that the run in it is the same one.

    Raises `OptionError` naming the first option in which they differ.
    """
    options = as_plain(config)
    path = config.out / CONFIG
    if path.exists():
        earlier = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name in fixed_options(config):
            if earlier.get(name) != options[name]:
                there = f"{config.out} holds a run with {earlier.get(name)}"
                raise OptionError(f"--{name}: {there}, not {options[name]}: choose another --out")
        if read_record(config.out / SHARD_SET, ShardSetRecord).signature != manifest.signature:
            raise OptionError(f"--shards: {config.out} holds a run on a shard set of another encoder or input")
    else:
        write_json(config.out / SHARD_SET, asdict(ShardSetRecord(manifest.signature, manifest.grid)))
    write_text(path, yaml.safe_dump(options, sort_keys=False))


def save_checkpoint(accelerator: Accelerator, out: Path, progress: Progress, keep: int) -> None:
    """Write what a run needs to go on; the last `keep` checkpoints stay. Raises `KitsamError` for a full disk."""
    folder = out / CHECKPOINTS / f"step-{progress.step:06d}"
    temporary = folder.with_name(f".tmp-{folder.name}")
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(temporary))
        if accelerator.is_main_process:
            write_json(temporary / STATE, asdict(progress))
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch.save says of a write that failed only at which position of its archive that was.
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise
        full = shutil.disk_usage(out).free < SMALLEST_FREE
        shutil.rmtree(temporary, ignore_errors=True)
        raise KitsamError(f"{folder}: cannot be written: {os.strerror(errno.ENOSPC) if full else error}") from error
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        for old in checkpoints(out)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def checkpoints(out: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted((out / CHECKPOINTS).glob("step-*"))


def load_last_checkpoint(accelerator: Accelerator, out: Path) -> Progress:
    """Bring model and optimizer to the last checkpoint, if there is one."""
    folders = checkpoints(out)
    if not folders:
        return Progress()
    accelerator.load_state(str(folders[-1]))
    return read_record(folders[-1] / STATE, Progress)


def save_decoder(out: Path, decoder: BoxDecoder) -> None:
    write_tensors(out / DECODER, decoder.state_dict())
