"""`kitsam bench processes`: training steps on one process and on several of this machine, and what they wait for.

Each number of processes is started as torchrun starts them, and does the steps of `kitsam train` on one shard set. They
wait for one another twice a step, when each has its batch and when each has its gradients; the time until all are there
counts as waiting for the others, the time after that as the exchange of gradients. Several processes on the cores of
one machine show what waiting and exchange cost, not what more machines gain.
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
from kitsam.bench.measure import write_figures
from kitsam.bench.shards import make_set
from kitsam.evaluation.workers import processor_cores
from kitsam.system.console import say
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.processes import use_cpu, wait_for_device
from kitsam.training.config import TrainConfig
from kitsam.training.setup import set_up
from kitsam.training.step import train_step

UNMEASURED = 2  # first steps
SET_BATCHES, SHARD_SAMPLES = 8, 16  # of the temporary set: batches in all, samples a shard


WAITS = ("data", "others", "gradients")  # fields of `Times`


@dataclass
class Times:
    """Seconds of one process, over the measured steps."""

    all: float = 0.0
    data: float = 0.0  # waiting for a batch
    others: float = 0.0  # waiting for the other processes
    gradients: float = 0.0  # exchanging gradients


def run(config: BenchProcessesConfig) -> int:
    for count in config.processes:
        if not use_cpu(config.device) and count > torch.cuda.device_count():
            raise OptionError(
                f"--processes: {count} processes need {count} GPUs, there are {torch.cuda.device_count()}: "
                "choose --processes or --device cpu"
            )
    with ExitStack() as stack:
        folder = config.shards
        if folder is None:
            work = stack.enter_context(tempfile.TemporaryDirectory(dir=config.work, prefix="kitsam-bench-"))
            folder = Path(work) / "set"
            make_set(folder, SET_BATCHES * config.batch_size, config.grid, SHARD_SAMPLES)
        results = {count: _run_processes(count, folder, config) for count in config.processes}
    first = results[config.processes[0]]
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
    for count, result in results.items():
        table.add_row(
            str(count),
            f"{result['seconds_per_step']:.3f}",
            f"{config.batch_size / result['seconds_per_step']:.2f}",
            f"{first['seconds_per_step'] / result['seconds_per_step']:.2f}",
            *(f"{result[f'waiting_for_{reason}']:.1%}" for reason in WAITS),
        )
    say(table)
    write_figures(config.json, "processes", {"batch_size": config.batch_size, "processes": results})
    return 0


def _run_processes(count: int, folder: Path, config: BenchProcessesConfig) -> dict[str, float]:
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
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id="kitsam-bench",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    threads = max(1, processor_cores() // count)
    try:
        times = elastic_launch(launch, measure)(training, threads).values()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        message = failure.message["message"] if isinstance(failure.message, dict) else failure.message
        raise KitsamError(f"process {rank} of {count}: {message}") from error
    total = sum(one.all for one in times)
    waits = {f"waiting_for_{reason}": sum(getattr(one, reason) for one in times) / total for reason in WAITS}
    return {"seconds_per_step": max(one.all for one in times) / config.steps, **waits}


def measure(config: TrainConfig, threads: int) -> Times:
    """The steps of `kitsam train` in this process, timed."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # otherwise accelerate sets it, with a warning
    torch.set_num_threads(threads)
    training = set_up(config)
    accelerator = training.accelerator
    times = Times()
    if accelerator.num_processes > 1:
        training.model.register_comm_hook(None, _timed_exchange(accelerator, times))
    with closing(training.questions(range(config.steps))) as batches:
        for step in range(config.steps):
            if step == UNMEASURED:
                wait_for_device(accelerator.device)
                times.data = times.others = times.gradients = 0.0
                start = time.perf_counter()
            wait_start = time.perf_counter()
            batch = next(batches)
            times.data += time.perf_counter() - wait_start
            _wait_for_others(accelerator, times)
            train_step(accelerator, training.model, training.optimizer, batch, step, 1.0, config)
            wait_for_device(accelerator.device)
        times.all = time.perf_counter() - start
    accelerator.end_training()
    return times


def _wait_for_others(accelerator: Accelerator, times: Times) -> None:
    wait_for_device(accelerator.device)
    start = time.perf_counter()
    accelerator.wait_for_everyone()
    times.others += time.perf_counter() - start


def _timed_exchange(accelerator: Accelerator, times: Times) -> Callable[[Any, Any], torch.futures.Future[Tensor]]:
    """A communication hook for DistributedDataParallel that averages its one bucket of gradients, timed."""

    def exchange(_: None, bucket: torch.distributed.GradBucket) -> torch.futures.Future[Tensor]:
        _wait_for_others(accelerator, times)
        start = time.perf_counter()
        gradients = bucket.buffer().div_(accelerator.num_processes)
        torch.distributed.all_reduce(gradients)
        wait_for_device(accelerator.device)
        times.gradients += time.perf_counter() - start
        future = torch.futures.Future()
        future.set_result(gradients)
        return future

    return exchange
