"""A run's folder: what is saved in it, and how a run goes on from it.

`config.yaml` and `shard_set.json` say what is trained on what; another configuration in the same folder is refused.
`checkpoints/step-NNNNNN/` holds what Accelerate saves (weights, optimizer) and `state.json`; it is written under a
temporary name and renamed by the main process when all processes are done. `decoder.safetensors` is the best decoder so far.
"""

import errno
import json
import os
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from accelerate import Accelerator
from safetensors import SafetensorError

from kitsam.config import PromptConfig, Target, TrainConfig
from kitsam.errors import KitsamError, OptionError
from kitsam.files import read_json, write_json, write_text
from kitsam.sam.decoder import BoxDecoder, decoder_from
from kitsam.shards.manifest import Manifest
from kitsam.tensors import read_tensors, write_tensors

CONFIG, SHARD_SET, DECODER, CHECKPOINTS, STATE = "config.yaml", "shard_set.json", "decoder.safetensors", "checkpoints", "state.json"
# Options that may change from one start of a run to the next: where things lie and what is printed.
FREE_TO_CHANGE = {"shards", "out", "device", "log_every", "keep_checkpoints", "checkpoint_every", "cache", "workers", "accumulate", "compile", "wandb", "step_timeout"}

SMALLEST_FREE = 1 << 20  # bytes; a disk with less is full


@dataclass
class Progress:
    """Where a run stands; the content of `state.json`."""

    step: int = 0  # optimizer steps done
    best_step: int = -1
    best_dice: float = -1.0
    stale: int = 0  # validations since the best one
    finished: bool = False


@dataclass(frozen=True)
class TrainedDecoder:
    """A finished or running run's best decoder and what must be known to use it."""

    target: Target
    decoder: BoxDecoder
    prompt: PromptConfig
    signature: dict[str, Any]
    path: Path
    grid: int


def as_plain(value: Any) -> Any:
    """A dataclass as YAML writes it."""
    return json.loads(json.dumps(asdict(value), default=str))


def open_run(config: TrainConfig, manifest: Manifest) -> None:
    """Make the run's folder, or check that the run in it is the same one.

    Raises `OptionError` naming the first option in which they differ.
    """
    wanted = as_plain(config)
    path = config.out / CONFIG
    if path.exists():
        earlier = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name, value in wanted.items():
            if name not in FREE_TO_CHANGE and earlier.get(name) != value:
                raise OptionError(f"--{name}: {config.out} holds a run with {earlier.get(name)}, not {value}: choose another --out")
        if read_json(config.out / SHARD_SET)["signature"] != manifest.signature:
            raise OptionError(f"--shards: {config.out} holds a run on a shard set of another encoder or input")
    else:
        write_json(config.out / SHARD_SET, {"signature": manifest.signature, "grid": manifest.grid})
    write_text(path, yaml.safe_dump(wanted, sort_keys=False))


def save_checkpoint(accelerator: Accelerator, out: Path, progress: Progress, keep: int) -> None:
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
        for old in saved_checkpoints(out)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def saved_checkpoints(out: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted((out / CHECKPOINTS).glob("step-*"))


def load_last_checkpoint(accelerator: Accelerator, out: Path) -> Progress:
    """Bring model and optimizer to the last checkpoint, if there is one."""
    saved = saved_checkpoints(out)
    if not saved:
        return Progress()
    accelerator.load_state(str(saved[-1]))
    return Progress(**read_json(saved[-1] / STATE))


def save_decoder(out: Path, decoder: BoxDecoder) -> None:
    write_tensors(out / DECODER, decoder.state_dict())


def load_run(run: Path, target: Target, option: str = "") -> TrainedDecoder:
    """Raises `OptionError` naming the option when `run` is no run of that target or has no decoder yet."""
    option = option or target
    if not (run / CONFIG).is_file() or not (run / SHARD_SET).is_file():
        raise OptionError(f"--{option}: no run in {run}: no {CONFIG}")
    config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    if config["target"] != target:
        raise OptionError(f"--{option}: {run} is a run of the {config['target']} decoder")
    path = run / DECODER
    if not path.is_file():
        raise OptionError(f"--{option}: {run} has no {DECODER} yet: the run was never validated")
    shard_set = read_json(run / SHARD_SET)
    decoder = decoder_from(read_tensors(path), shard_set["grid"], str(path)).eval()
    return TrainedDecoder(target, decoder, prompt_from(config["prompt"]), shard_set["signature"], path, shard_set["grid"])


def prompt_from(settings: dict[str, Any]) -> PromptConfig:
    known = {field.name for field in fields(PromptConfig)}
    return PromptConfig(**{name: tuple(v) if isinstance(v, list) else v for name, v in settings.items() if name in known})
