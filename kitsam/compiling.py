"""Whether torch compiles an encoder or a decoder: measured where it will run, before the work begins.

Compiling takes about a minute, and what it gains depends on the device: on a GPU it fuses what stands between the products, on a CPU it makes the
encoder no faster (measured: 0.97 to 1.02 times) and the decoder's step up to 1.5 times. Left to itself kitsam never compiles on a CPU,
where the same command gives the same bytes and must not depend on a measurement.
"""

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from kitsam.config import Compile
from kitsam.console import say, warn
from kitsam.errors import OptionError

WORTH_TRYING = 600.0  # seconds of work, ten times what compiling takes: below it the gain cannot be large


def compile_where_it_pays(module: nn.Module, choice: Compile, device: torch.device, batch: Callable[[], object], batches: int) -> None:
    """Set `module.compiled`. `batch` does the work of one batch with the module, of which there will be `batches`.

    Raises `OptionError` when compiling was asked for and torch cannot do it here.
    """
    module.compiled = choice == "yes"
    if choice == "no" or (choice == "auto" and device.type == "cpu"):
        return
    eager = 0.0
    if choice == "auto":
        eager = seconds_of(batch, device)
        if eager * batches < WORTH_TRYING:
            return
    module.compiled = True
    began = time.perf_counter()
    try:
        compiled = seconds_of(batch, device)
    except RuntimeError as error:  # torch's own errors of compiling are all of that kind
        module.compiled = False
        reason = str(error).strip().splitlines()[0]
        if choice == "yes":
            raise OptionError(f"--compile: torch cannot compile here: {reason}") from error
        warn(f"torch cannot compile here, going on without: {reason}")
        return
    spent = time.perf_counter() - began
    if choice == "auto":
        module.compiled = compiled < eager
        say(f"Compiled {compiled:.3f} s a batch, as it stands {eager:.3f} s: {'' if module.compiled else 'not '}compiled (tried for {spent:.0f} s)")


@cache
def compiled(function: Callable, dynamic: bool) -> Callable:
    """One compiled form for the whole process. `dynamic`: for tensors of any size, not for those it meets."""
    return torch.compile(function, dynamic=dynamic)


def seconds_of(batch: Callable[[], object], device: torch.device) -> float:
    """Of the faster of two batches after a first, which may compile."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        batch()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])
