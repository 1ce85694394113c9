"""What every benchmark needs: a process of its own, its time and its memory, and where the figures go."""

import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from kitsam import __version__
from kitsam.system.console import say
from kitsam.system.files import write_json
from kitsam.system.options import Device
from kitsam.system.processes import use_bfloat16, use_cpu

MIB = 2**20


class Measured(NamedTuple):
    value: Any
    seconds: float
    peak: int  # bytes of memory above what the process held before, its own processes' included


def in_fresh_process(function: Callable, *arguments: Any) -> Measured:
    """Call a function of a module in a new Python process, so that nothing measured before it leaves traces."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, function, arguments).result()


def _measure(function: Callable, arguments: tuple) -> Measured:
    before = _resident()
    began = time.perf_counter()
    value = function(*arguments)
    seconds = time.perf_counter() - began
    # Not ru_maxrss, which begins with the peak of the process that started this one.
    own = peak_memory(torch.device("cpu")) - before
    return Measured(value, seconds, own + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def machine() -> dict[str, str]:
    """What figures depend on, for the table's caption and the JSON."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "date": date.today().isoformat(),
        "cpu": f"{_cpu_name()}, {torch.get_num_threads()} threads",
        "gpu": gpu,
        "kitsam": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def keep(path: Path | None, name: str, figures: dict[str, Any]) -> None:
    """Write the figures with the machine they were taken on, where a file was asked for."""
    if path:
        write_json(path, {"benchmark": name, "machine": machine(), **figures})
        say(f"Figures: {path}")


class Way(NamedTuple):
    """How kitsam computes."""

    bfloat16: bool
    compiled: bool


def chosen_precision(device: Device) -> Literal["bf16", "fp32"]:
    """What kitsam takes on this device when it is not told."""
    return "bf16" if use_bfloat16("auto", torch.device("cpu" if use_cpu(device) else "cuda")) else "fp32"


def our_ways(device: Device, compile: bool) -> dict[str, Way]:
    """By the names they have in tables."""
    ways = {"kitsam, fp32": Way(False, False), "kitsam, bf16": Way(True, False)}
    if compile:
        chosen = chosen_precision(device)
        ways[f"kitsam, {chosen}, compiled"] = Way(chosen == "bf16", True)
    return ways


def when_compiling_pays(found: dict[str, dict], seconds: Callable[[dict], float], chosen: str, unit: str) -> str:
    """`seconds`: of one batch or step, from what was measured of one way."""
    plain, compiled = found[f"kitsam, {chosen}"], found[f"kitsam, {chosen}, compiled"]
    # The first time takes longer uncompiled, too.
    spent = compiled["first_seconds"] - seconds(compiled) - (plain["first_seconds"] - seconds(plain))
    saved = seconds(plain) - seconds(compiled)
    return f"Compiling takes {spent:.0f} s and {f'pays from {spent / saved:,.0f} {unit}' if saved > 0 else 'saves nothing'}"


def reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")


def peak_memory(device: torch.device) -> int:
    """Bytes, at most, since `reset_peak_memory`: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
