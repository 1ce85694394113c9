"""`kitsam bench processes`: training steps on one process and on several of this machine, and what they wait for.

Each number of processes is started as torchrun starts them, and does the steps of `kitsam train` on one shard set. They meet twice a step, when each has
its batch and when each has its gradients; what passes until all are there is waiting for another process, what passes then is the gradients'
way. More than one process on the cores of one machine shows what meeting costs, not what more machines gain.
"""

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.table import Table
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from kitsam.bench.config import BenchProcessesConfig
from kitsam.bench.measure import keep
from kitsam.bench.shards import make_set
from kitsam.system.console import say
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.processes import use_cpu, wait_for_device
from kitsam.training.config import TrainConfig
from kitsam.training.setup import set_up
from kitsam.training.step import train_step

UNMEASURED = 2  # steps
SET_BATCHES, SHARD_SAMPLES = 8, 16  # of the set that is made


@dataclass
class Times:
    """Seconds of one process, over the measured steps."""

    all: float = 0.0
    data: float = 0.0  # waiting for a batch
    others: float = 0.0  # waiting for the other processes
    gradients: float = 0.0  # on their way, when all are there


def run(config: BenchProcessesConfig) -> int:
    for count in config.processes:
        if not use_cpu(config.device) and count > torch.cuda.device_count():
            raise OptionError(
                f"--processes: {count} processes need {count} GPUs, there are {torch.cuda.device_count()}: choose --processes or --device cpu"
            )
        if config.batch_size % count:
            raise OptionError(
                f"--processes: {config.batch_size} slices (--batch_size) cannot be shared evenly by {count} processes"
            )
    with ExitStack() as stack:
        folder = config.shards
        if folder is None:
            folder = (
                Path(stack.enter_context(tempfile.TemporaryDirectory(dir=config.work, prefix="kitsam-bench-"))) / "set"
            )
            make_set(folder, SET_BATCHES * config.batch_size, config.grid, SHARD_SAMPLES)
        found = {count: _on_processes(count, folder, config) for count in config.processes}
    table = Table(
        "processes",
        "s a step",
        "slices/s",
        "times",
        "for data",
        "for others",
        "gradients",
        title=f"Training steps of {config.batch_size} slices; shares of the time spent waiting",
    )
    for count, one in found.items():
        table.add_row(
            str(count),
            f"{one['seconds_per_step']:.3f}",
            f"{config.batch_size / one['seconds_per_step']:.2f}",
            f"{found[config.processes[0]]['seconds_per_step'] / one['seconds_per_step']:.2f}",
            *(f"{one[f'waiting_for_{what}']:.1%}" for what in ("data", "others", "gradients")),
        )
    say(table)
    keep(config.json, "processes", {"batch_size": config.batch_size, "processes": found})
    return 0


def _on_processes(count: int, folder: Path, config: BenchProcessesConfig) -> dict[str, float]:
    training = TrainConfig(
        target="roi",
        shards=str(folder),
        out=folder / "run",  # nothing is written there
        steps=UNMEASURED + config.steps,
        batch_size=config.batch_size,
        workers=config.workers,
        device=config.device,
        init="random",
    )
    started = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id="kitsam-bench",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    threads = max(1, len(os.sched_getaffinity(0)) // count)
    try:
        times = elastic_launch(started, measure)(training, threads).values()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise KitsamError(
            f"process {rank} of {count}: {failure.message['message'] if isinstance(failure.message, dict) else failure.message}"
        ) from error
    return {
        "seconds_per_step": max(one.all for one in times) / config.steps,
        **{
            f"waiting_for_{what}": sum(getattr(one, what) for one in times) / sum(one.all for one in times)
            for what in ("data", "others", "gradients")
        },
    }


def measure(config: TrainConfig, threads: int) -> Times:
    """The steps of `kitsam train` in this process, timed."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # or accelerate would set it, and say so
    torch.set_num_threads(threads)
    training = set_up(config)
    accelerator = training.accelerator
    times = Times()
    if accelerator.num_processes > 1:
        training.model.register_comm_hook(None, _timed_exchange(accelerator, times))
    with closing(training.questions(range(config.steps))) as made:
        for step in range(config.steps):
            if step == UNMEASURED:
                wait_for_device(accelerator.device)
                times.data = times.others = times.gradients = 0.0
                began = time.perf_counter()
            asked = time.perf_counter()
            batch = next(made)
            times.data += time.perf_counter() - asked
            _meet(accelerator, times)
            train_step(accelerator, training.model, training.optimizer, batch, step, 1.0, config)
            wait_for_device(accelerator.device)
        times.all = time.perf_counter() - began
    accelerator.end_training()
    return times


def _meet(accelerator: Accelerator, times: Times) -> None:
    wait_for_device(accelerator.device)
    began = time.perf_counter()
    accelerator.wait_for_everyone()
    times.others += time.perf_counter() - began


def _timed_exchange(accelerator: Accelerator, times: Times) -> Callable[[Any, Any], torch.futures.Future[Tensor]]:
    """What DistributedDataParallel does with its one message of gradients, timed."""

    def exchange(_: None, bucket: torch.distributed.GradBucket) -> torch.futures.Future[Tensor]:
        _meet(accelerator, times)
        began = time.perf_counter()
        gradients = bucket.buffer().div_(accelerator.num_processes)
        torch.distributed.all_reduce(gradients)
        wait_for_device(accelerator.device)
        times.gradients += time.perf_counter() - began
        future = torch.futures.Future()
        future.set_result(gradients)
        return future

    return exchange
