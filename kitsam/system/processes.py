"""Which device and number format a stage computes with, and which of several processes this is.

Accelerate starts the process group from what `torchrun`, `accelerate launch` or SLURM put into the environment;
on a machine without a GPU it must be told to use the CPU, or it would not take torchrun's processes.

Processes wait for one another with a limit: generous while they start and where each has its own cases, short while
they train in step, so that a process that hangs ends the others soon. One that dies ends them at once over gloo.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import PartialState
from torch.distributed.distributed_c10d import _set_pg_timeout

from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.options import Device, Precision

# Reading the shard set, the first step, the first validation: one process may be that far behind another.
START_LIMIT = timedelta(minutes=30)
# Cases dealt to processes: the last one may be a whole group of cases behind the first, hours on a CPU.
WORK_LIMIT = timedelta(days=1)
PR_SET_PDEATHSIG = 1  # from linux/prctl.h


def use_cpu(device: Device) -> bool:
    """Raises `OptionError` when a GPU is asked for and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("--device: cuda was asked for, but torch sees no GPU")
    return device == "cpu" or not torch.cuda.is_available()


def start_processes(device: Device) -> PartialState:
    """The processes of a stage that deals its cases to them, all started."""
    end_with_launcher()
    return PartialState(cpu=use_cpu(device), timeout=WORK_LIMIT)


def end_with_launcher() -> None:
    """Have Linux kill this process when torchrun is killed, which otherwise leaves its processes at work."""
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def set_collective_timeout(limit: timedelta) -> None:
    """From now on an operation over all processes fails when it takes longer than `limit`."""
    if torch.distributed.is_initialized():
        _set_pg_timeout(limit)  # the only way to change a group that exists, and what torchtitan uses


@contextmanager
def collective_timeout(limit: timedelta, afterwards: timedelta) -> Iterator[None]:
    """Operations over all processes may take `limit` in this block, and `afterwards` behind it."""
    set_collective_timeout(limit)
    yield
    set_collective_timeout(afterwards)


@contextmanager
def report_lost_peer() -> Iterator[None]:
    """Say in one line that another process has gone or hangs; the backends say it in their own words only."""
    try:
        yield
    except RuntimeError as error:
        text = " ".join(str(error).split())
        if not isinstance(error, torch.distributed.DistError) and not any(name in text for name in ("gloo", "NCCL")):
            raise
        rank = os.environ.get("RANK", "0")
        reason = text.split("] ", 1)[-1][:120]  # without gloo's file and line
        raise KitsamError(
            f"process {rank}: another process has ended or does not answer ({reason}); "
            "the same command goes on from what is saved"
        ) from error


def wait_for_device(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def use_bfloat16(precision: Precision, device: torch.device) -> bool:
    if precision == "auto":
        # GPUs before Ampere take bfloat16 and compute it in float32, more slowly than float32 itself.
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"


def deal(sizes: list[int], processes: int) -> list[list[int]]:
    """Indices of `sizes` for each process, the sums as even as dealing the largest first makes them."""
    hands: list[list[int]] = [[] for _ in range(processes)]
    loads = [0] * processes
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        lightest = loads.index(min(loads))
        hands[lightest].append(index)
        loads[lightest] += sizes[index]
    return [sorted(hand) for hand in hands]
