"""Training steps in one or several processes of this machine, timed part by part.

Each number of processes is started as torchrun starts them, and does the steps of `kitsam train` on one shard set. So
that each part has its own time, a GPU is waited for after each, and processes wait for one another twice a step, when
each has its batch and when each has its gradients: the time until all are there counts as waiting for the others, the
time after that as the exchange of gradients. Then the same steps are done once more as `kitsam train` does them, where
reading, copying and computing go on at the same time.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from kitsam.bench.config import BenchProcessesConfig, BenchTrainingConfig
from kitsam.bench.shard_set import make_set
from kitsam.ct.labels import Target
from kitsam.ct.strata import STRATA
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.machine import available_cores
from kitsam.system.options import Device
from kitsam.system.processes import use_cpu, wait_for_device
from kitsam.training.config import TrainConfig
from kitsam.training.schedule import learning_rate
from kitsam.training.setup import Training, set_up
from kitsam.training.step import train_step
from kitsam.training.transfer import on_device

UNMEASURED = 2  # first steps
SET_BATCHES, SHARD_SAMPLES = 8, 16  # of a temporary set: batches in all, most samples of a shard


@dataclass
class Parts:
    """Where the time of steps goes, seconds."""

    data: float = 0.0  # waiting for a batch
    copy: float = 0.0  # of a batch to the device
    others: float = 0.0  # waiting for the other processes
    forward: float = 0.0  # drawing what is asked, decoder, loss
    backward: float = 0.0
    gradients: float = 0.0  # their exchange
    optimizer: float = 0.0

    @property
    def sum(self) -> float:
        return sum(asdict(self).values())


@dataclass
class Times:
    """Seconds of one process, over the measured steps."""

    parts: Parts  # one after another
    together: float  # as `kitsam train` does the steps
    data: float  # of that, waiting for a batch


@contextmanager
def shard_set(shards: Path | None, work: Path | None, batch_size: int, grid: int) -> Iterator[Path]:
    """The given set, or a temporary one."""
    with ExitStack() as stack:
        if shards is None:
            shards = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=work, prefix="kitsam-bench-"))) / "set"
            samples = SET_BATCHES * batch_size
            # Each stratum has a shard.
            make_set(shards, samples, grid, max(1, min(SHARD_SAMPLES, samples // len(STRATA))))
        yield shards


def training_of(config: BenchProcessesConfig | BenchTrainingConfig, target: Target, folder: Path) -> TrainConfig:
    """The training whose steps are timed, on the set in `folder`."""
    return TrainConfig(
        target=target,
        shards=str(folder),
        out=folder / "run",  # nothing is written there
        steps=UNMEASURED + config.steps,
        batch_size=config.batch_size,
        workers=config.workers,
        device=config.device,
        init="random",
    )


def check_gpus(counts: Sequence[int], device: Device) -> None:
    """Raises `OptionError` where there are fewer GPUs than processes."""
    for count in counts:
        if not use_cpu(device) and count > torch.cuda.device_count():
            raise OptionError(
                f"--processes: {count} processes need {count} GPUs, there are {torch.cuda.device_count()}: "
                "choose --processes or --device cpu"
            )


def time_steps(config: TrainConfig, processes: int) -> list[Times]:
    """Of each process; all but the first steps of `config` are measured, and nothing is written."""
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="kitsam-bench",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    threads = max(1, available_cores() // processes)
    try:
        return list(elastic_launch(launch, measure)(config, threads).values())
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        message = failure.message["message"] if isinstance(failure.message, dict) else failure.message
        raise KitsamError(f"process {rank} of {processes}: {message}") from error


def measure(config: TrainConfig, threads: int) -> Times:
    """The steps of `kitsam train` in this process, timed."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # otherwise accelerate sets it, with a warning
    torch.set_num_threads(threads)
    training = set_up(config)
    together, data = _time_together(training)
    times = Times(_time_parts(training), together, data)
    training.accelerator.end_training()
    return times


def _time_together(training: Training) -> tuple[float, float]:
    """Seconds in all and waiting for batches."""
    device, steps = training.accelerator.device, training.config.steps
    with closing(on_device(training.questions(range(steps)), device)) as batches:
        for step in range(steps):
            if step == UNMEASURED:
                wait_for_device(device)
                start, waited = time.perf_counter(), 0.0
            began = time.perf_counter()
            batch = next(batches)
            waited = 0.0 if step < UNMEASURED else waited + time.perf_counter() - began
            _step(training, batch, step)
        wait_for_device(device)
        return time.perf_counter() - start, waited


def _step(training: Training, batch: Any, step: int) -> None:
    config = training.config
    rate = learning_rate(step, [config.steps], config.optimizer)
    train_step(training.accelerator, training.model, training.optimizer, batch, rate, 1.0, config)


class _Clock:
    """Adds the time since the last look at it to the part that was just done."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.restart()

    def restart(self) -> None:
        wait_for_device(self.accelerator.device)
        self.parts, self.last = Parts(), time.perf_counter()

    def lap(self, part: str) -> None:
        wait_for_device(self.accelerator.device)
        now = time.perf_counter()
        setattr(self.parts, part, getattr(self.parts, part) + now - self.last)
        self.last = now

    def wait_for_others(self) -> None:
        self.accelerator.wait_for_everyone()
        self.lap("others")


def _time_parts(training: Training) -> Parts:
    accelerator, steps = training.accelerator, training.config.steps
    clock = _Clock(accelerator)
    if accelerator.num_processes > 1:
        training.model.register_comm_hook(None, _timed_exchange(clock))
    # Between the forward and backward pass of a step nothing else can look at the clock.
    accelerator.backward = _timed_backward(accelerator.backward, clock)
    with closing(training.questions(range(steps))) as batches:
        for step in range(steps):
            if step == UNMEASURED:
                clock.restart()
            batch = next(batches)
            clock.lap("data")
            batch = batch.to(accelerator.device)
            clock.lap("copy")
            clock.wait_for_others()
            _step(training, batch, step)
            clock.lap("optimizer")
    return clock.parts


def _timed_backward(backward: Callable[[Tensor], None], clock: _Clock) -> Callable[[Tensor], None]:
    def timed(loss: Tensor) -> None:
        clock.lap("forward")
        backward(loss)
        clock.lap("backward")

    return timed


def _timed_exchange(clock: _Clock) -> Callable[[Any, Any], torch.futures.Future[Tensor]]:
    """A communication hook for DistributedDataParallel that averages its one bucket of gradients, timed."""

    def exchange(_: None, bucket: torch.distributed.GradBucket) -> torch.futures.Future[Tensor]:
        clock.lap("backward")
        clock.wait_for_others()
        gradients = bucket.buffer().div_(clock.accelerator.num_processes)
        torch.distributed.all_reduce(gradients)
        clock.lap("gradients")
        future = torch.futures.Future()
        future.set_result(gradients)
        return future

    return exchange
