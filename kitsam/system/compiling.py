"""Whether torch compiles an encoder or a decoder: measured where it will run, before the work begins.

Compiling takes about a minute, and what it gains depends on the device: on a GPU it fuses what stands between the
products; on a CPU it makes the encoder no faster (measured: 0.97 to 1.02 times) and the decoder's step up to 1.5 times.
Left to itself kitsam never compiles on a CPU, where the same command gives the same bytes and must not depend on a
measurement.
"""

import time
from collections.abc import Callable
from functools import cache

import torch
from accelerate.utils import broadcast_object_list
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
    if choice == "no" or not batches or (choice == "auto" and device.type == "cpu"):
        return
    if choice == "yes":
        module.is_compiled = True
        if error := _first_error(batch):
            raise OptionError(f"--compile: torch cannot compile here: {error}")
        return
    answer = [_pays(module, device, batch, batches) if is_main_process() else None]
    broadcast_object_list(answer)
    module.is_compiled = answer[0]


def _pays(module: nn.Module, device: torch.device, batch: Callable[[], object], batches: int) -> bool:
    eager = seconds_per_batch(batch, device)
    if eager * batches < WORTH_TRYING:
        return False
    module.is_compiled = True
    if error := _first_error(batch):
        warn(f"torch cannot compile here, going on without: {error}")
        return False
    fast = seconds_per_batch(batch, device)
    pays = fast < eager
    say(f"{fast:.3f} s a batch compiled, {eager:.3f} s as it stands: {'compiled' if pays else 'not compiled'}")
    return pays


def _first_error(batch: Callable[[], object]) -> str | None:
    """What goes wrong when torch compiles, which it does with the first batch; in one line."""
    try:
        batch()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # torch's own errors of compiling are all of that kind
        cause = getattr(error, "inner_exception", error)
        return next(iter(str(cause).strip().splitlines()), type(cause).__name__)
    return None


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
