"""What `kitsam train --dry-run` prints: steps, bytes to read, memory and time, from a few steps that nobody keeps."""

import time
from contextlib import closing

import psutil
import torch
from accelerate import Accelerator
from rich.table import Table

from kitsam.ct.strata import negative_ratio
from kitsam.shards.manifest import Manifest
from kitsam.system.console import say, size_text, time_text
from kitsam.system.processes import wait_for_device
from kitsam.training.config import TrainConfig
from kitsam.training.setup import Training, set_up
from kitsam.training.step import train_step
from kitsam.training.transfer import on_device

WARM_UP, MEASURED = 1, 2  # steps


def print_forecast(config: TrainConfig) -> None:
    """Of a run from its first step, with as many processes as this one has. Every process must come here."""
    training = set_up(config)
    seconds = _seconds_per_step(training)
    manifest, config = training.shards.manifest, training.config
    validations = -(-config.steps // config.validation.every)
    slices = validations * sum(shard.samples for shard in manifest.val)
    # A slice of validation takes a forward pass alone: a third of a slice that is trained on.
    in_validation = slices / config.batch_size * seconds / 3
    table = Table("", "", show_header=False, title="What kitsam train would do")
    table.add_row("device", f"{training.accelerator.device}, {config.precision}")
    table.add_row("steps", f"{config.steps} of {config.batch_size} slices, {validations} validations")
    table.add_row("reads", f"{size_text(_bytes(manifest, config, validations))}, the set's slices again and again")
    table.add_row("memory", f"{_memory_text(training.accelerator)} a process")
    of_processes = f"with {training.accelerator.num_processes} processes" if _is_shared(training) else "here"
    text = f"{time_text(config.steps * seconds + in_validation)} {of_processes}, {seconds:.2f} s a step"
    table.add_row("time", f"{text}, {time_text(in_validation)} of it in validations")
    say(table)
    say("Nothing was written.")


def _is_shared(training: Training) -> bool:
    return training.accelerator.num_processes > 1


def _seconds_per_step(training: Training) -> float:
    config, accelerator = training.config, training.accelerator
    weight = negative_ratio(training.shards.manifest.voxels, config.target) ** config.loss.balance
    began = 0.0
    with closing(on_device(training.questions(range(WARM_UP + MEASURED)), accelerator.device)) as questions:
        for step, batch in enumerate(questions):
            if step == WARM_UP:
                wait_for_device(accelerator.device)
                began = time.monotonic()
            train_step(accelerator, training.model, training.optimizer, batch, 0.0, weight, config)
        wait_for_device(accelerator.device)
    return (time.monotonic() - began) / MEASURED


def _bytes(manifest: Manifest, config: TrainConfig, validations: int) -> int:
    """All that is read, about; what lies in the page cache comes from there."""
    samples, size = (sum(getattr(shard, name) for shard in manifest.train) for name in ("samples", "bytes"))
    validation = sum(shard.bytes for shard in manifest.val)
    return round(config.steps * config.batch_size * size / samples) + validations * validation


def _memory_text(accelerator: Accelerator) -> str:
    program = f"{size_text(psutil.Process().memory_info().rss)} of main memory"
    if accelerator.device.type != "cuda":
        return program
    return f"{program} and {size_text(torch.cuda.max_memory_allocated(accelerator.device))} of the GPU's"
