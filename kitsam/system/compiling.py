"""Whether torch compiles an encoder or a decoder: measured where it will run, before the work begins.

Compiling takes about a minute, and what it gains depends on the device: on a GPU it fuses what stands between the
products; on a CPU it makes the encoder no faster (measured: 0.97 to 1.02 times) and the decoder's step up to 1.5 times.
Left to itself kitsam compiles for CUDA alone: never on a CPU, where the same command gives the same bytes and must not
depend on a measurement.

flex_attention is worth compiling on any GPU and is not measured: it is used where torch can compile it (which takes
triton, a C compiler and compute capability 7.0), unless the user wants nothing compiled.
"""

import subprocess
import time
from collections.abc import Callable
from functools import cache

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import nn

from kitsam.system.console import is_main_process, say, warn
from kitsam.system.errors import OptionError
from kitsam.system.options import Compile
from kitsam.system.processes import wait_for_device

WORTH_TRYING = 600.0  # seconds of work, ten times what compiling takes: below it the gain cannot be large


def compile_where_it_pays(
    module: nn.Module, choice: Compile, device: torch.device, batch: Callable[[], object], batches: int
) -> None:
    """Set `module.is_compiled`, to the same in all processes.

    `batch` does the work of one batch with the module; each process will do `batches` of them. Raises `OptionError`
    where the user chose to compile and torch cannot do it here.
    """
    module.is_compiled = False
    if choice == "no" or not batches or (choice == "auto" and device.type != "cuda"):
        return
    if choice == "yes":
        module.is_compiled = True
        if reason := _why_not(batch):
            raise OptionError(f"--compile: {reason}")
        return
    answer = [_pays(module, device, batch, batches) if is_main_process() else None]
    broadcast_object_list(answer)
    module.is_compiled = answer[0]


def _pays(module: nn.Module, device: torch.device, batch: Callable[[], object], batches: int) -> bool:
    eager = seconds_per_batch(batch, device)
    if eager * batches < WORTH_TRYING:
        return False
    module.is_compiled = True
    fast: list[float] = []
    if reason := _why_not(lambda: fast.append(seconds_per_batch(batch, device))):
        warn(f"{reason}: going on without torch.compile")
        return False
    pays = fast[0] < eager
    say(f"{fast[0]:.3f} s a batch compiled, {eager:.3f} s as it stands: {'compiled' if pays else 'not compiled'}")
    return pays


def kernel_compiles(choice: Compile, device: torch.device, batch: Callable[[], object]) -> bool:
    """Whether flex_attention can be compiled and may be: in all processes or in none, with one warning.

    `batch` does the work of one batch with it, and so compiles the kernel that the next batches use.
    """
    if choice == "no" or device.type != "cuda":
        return False
    reasons = [reason for reason in gather_object([_why_not(batch)]) if reason]
    if reasons and is_main_process():
        warn(f"{reasons[0]}: going on without flex_attention, more slowly")
    return not reasons


def _why_not(work: Callable[[], object]) -> str | None:
    """Why torch cannot do `work` compiled, in one line; it compiles when the work is done for the first time."""
    try:
        work()
        return None
    except torch.OutOfMemoryError as error:
        reason = f"compiled, a batch does not fit into the memory: {_first_sentences(error, 2)}"
    except _NO_COMPILING as error:
        cause = getattr(error, "inner_exception", error)
        line = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        reason = f"torch cannot compile here: {line}"
    torch.cuda.empty_cache()  # of what the attempt held, now that its frames are gone
    return reason


# Torch's own errors of compiling are all `RuntimeError`; the rest comes of triton, which builds with a C compiler and
# loads what a compiled function needs when it first runs.
_NO_COMPILING = (RuntimeError, OSError, ImportError, subprocess.SubprocessError)


def _first_sentences(error: Exception, count: int) -> str:
    return ". ".join(" ".join(str(error).split()).split(". ")[:count])


@cache
def compile_once(function: Callable, dynamic: bool) -> Callable:
    """The function as torch compiles it, once for the whole process; `dynamic`: for tensors of any size."""
    return torch.compile(function, dynamic=dynamic)


def seconds_per_batch(batch: Callable[[], object], device: torch.device) -> float:
    """What the faster of two batches takes, after a first one that is not counted."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        batch()
        wait_for_device(device)
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])
