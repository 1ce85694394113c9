"""Which number format to compute in, where that is left open.

A GPU that computes in bfloat16 is faster in it. Of a CPU no data sheet tells: an EPYC with avx512_bf16 runs `vit_b` 1.6
times as fast in bfloat16, a Xeon that has amx_bf16 too 0.6 times, and `lite_medsam` 1.4 times. So where a CPU has such
instructions and there is work for ten minutes, both formats are timed in turns, by the processor's time, which other
work on the machine changes least. Two measurements still differ by some percent: bfloat16 must be faster by `MARGIN`,
and whoever asks keeps the answer with what is computed, so that it goes on in the same format wherever it goes on.
"""

import time
from collections.abc import Callable
from typing import Literal

import torch

from kitsam.system.console import say
from kitsam.system.options import Precision
from kitsam.system.processes import use_bfloat16

MARGIN = 1.2  # times as fast
WORTH_MEASURING = 600.0  # seconds of work
ROUNDS = 3  # of measuring; the fastest counts

Format = Literal["fp32", "bf16"]


def faster_format(
    work: Callable[[bool], object],  # computes in bfloat16 or in float32
    repeats: float,  # how often each process will do that work
    device: torch.device,
    unit: str,  # of the work, such as "slice"
) -> Format:
    """In one process: the others must be told. Says in a line what was measured."""
    if device.type != "cpu":
        return "bf16" if use_bfloat16("auto", device) else "fp32"
    if not has_bfloat16_instructions() or _seconds(work, False, time.perf_counter) * repeats < WORTH_MEASURING:
        return "fp32"
    work(True)  # the first time takes longer
    rounds = [[_seconds(work, bfloat16, time.process_time) for bfloat16 in (False, True)] for _ in range(ROUNDS)]
    fp32, bf16 = map(min, zip(*rounds))
    choice = better_format(fp32, bf16)
    say(
        f"{unit} takes the processor {fp32:.3g} s in fp32, {bf16:.3g} s in bf16, which must be {MARGIN} times as fast: "
        f"{choice} is taken"
    )
    return choice


def format_text(precision: Precision, device: torch.device) -> str:
    """What will be computed in, as far as that is known before anything is measured."""
    if precision == "auto" and device.type == "cpu" and has_bfloat16_instructions():
        return "fp32, or bf16 where it is measured to be faster"
    return "bf16" if use_bfloat16(precision, device) else "fp32"


def better_format(fp32: float, bf16: float) -> Format:
    """By the seconds that the same work takes in each."""
    return "bf16" if fp32 >= MARGIN * bf16 else "fp32"


def has_bfloat16_instructions() -> bool:
    """Whether this CPU computes in bfloat16 itself."""
    names = ("avx512_bf16", "amx_tile")  # torch 2.6 has no public names for them
    return any(getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in names)


def _seconds(work: Callable[[bool], object], bfloat16: bool, clock: Callable[[], float]) -> float:
    began = clock()
    work(bfloat16)
    return clock() - began
