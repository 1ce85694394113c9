"""Which device and number format a stage computes with, and which of several processes this is.

Accelerate starts the process group from what `torchrun`, `accelerate launch` or SLURM put into the environment;
on a machine without a GPU it must be told to use the CPU, or it would not take torchrun's processes.

Processes wait for one another with a generous limit; those that train in step are watched besides (`watch.py`). One
that dies ends them at once over gloo. NCCL ends a process itself, in its own words, and leaves a record of the last
operations (torch's flight recorder) in files that its words name.
"""

import atexit
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import PartialState
from torch.distributed import PrefixStore, Store, TCPStore

from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.options import Device, Precision

# Reading the shard set, the first step, the first validation, data that is late: one process may be that far behind
# another.
START_LIMIT = timedelta(minutes=30)
# Cases dealt to processes: the last one may be a whole group of cases behind the first, hours on a CPU.
WORK_LIMIT = timedelta(days=1)
# Operations that the flight recorder keeps, and that it writes them down when one takes too long (torch's
# documentation, "PYTORCH ProcessGroupNCCL Environment Variables").
NCCL = {"TORCH_FR_BUFFER_SIZE": "2000", "TORCH_NCCL_DUMP_ON_TIMEOUT": "1"}
PR_SET_PDEATHSIG = 1  # from linux/prctl.h
GOES_ON = "the same command goes on from what is saved"


def find_device(device: Device) -> torch.device:
    """Raises `OptionError` for one that is not there."""
    has_mps = torch.backends.mps.is_available()
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    found = torch.device(device)
    if found.type == "cuda" and not torch.cuda.is_available():
        raise OptionError(f"--device: {device} was asked for, but torch sees no GPU")
    if found.type == "mps" and not has_mps:
        raise OptionError("--device: mps was asked for, but torch sees no GPU of Apple")
    if found.index is not None:
        _take_one(found)
    return found


def _take_one(gpu: torch.device) -> None:
    """Make a GPU that is named by its number the one that this process computes on."""
    count = torch.cuda.device_count()
    if gpu.index >= count:
        raise OptionError(f"--device: {gpu} was asked for, but the last of {count} GPUs is cuda:{count - 1}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise OptionError(f"--device: {gpu} is for one process: several take a GPU each (CUDA_VISIBLE_DEVICES)")
    torch.cuda.set_device(gpu)


def use_cpu(device: Device) -> bool:
    """Raises `OptionError` when a GPU is asked for and there is none."""
    return find_device(device).type == "cpu"


def start_processes(device: Device, limit: timedelta = WORK_LIMIT) -> PartialState:
    """The processes of a stage, all started. `limit`: how long they wait for one another; the usual one is for a stage
    that deals its cases to them.
    """
    prepare_group()
    with report_lost_peer():
        processes = PartialState(cpu=use_cpu(device), timeout=limit)
        # Gloo connects each process with each in turn: one that ends while others still connect would end them too.
        if processes.num_processes > 1 and torch.distributed.get_backend() == "gloo":
            torch.distributed.barrier()
    return processes


def prepare_group() -> None:
    """What must be set before the process group starts."""
    for name, value in NCCL.items():
        os.environ.setdefault(name, value)
    # Have Linux kill this process when torchrun is killed, which otherwise leaves its processes at work.
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    atexit.register(_leave_group)


def _leave_group() -> None:
    """Close gloo's group before Python ends: its threads now and then abort a process that ends with it open.

    NCCL is left to the end of the process: closing it waits for processes that may be gone.
    """
    distributed = torch.distributed
    if distributed.is_initialized() and distributed.get_backend() == "gloo":
        distributed.destroy_process_group()


def open_store(name: str) -> Store:
    """Keys and values that all processes share, under names of their own: a new connection to the group's store."""
    server = TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, wait_for_workers=False
    )
    # torchrun's store outlives processes that it starts again.
    return PrefixStore(f"kitsam/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{name}", server)


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
            f"process {rank}: another process has ended or does not answer ({reason}); {GOES_ON}"
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
