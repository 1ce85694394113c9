"""What every benchmark needs: a process of its own, its time and memory, and a file for the figures.

Each way of doing a thing is measured in a new Python process, so that nothing measured before it leaves traces. Memory
is the peak above what the process held at the start: on Linux that of the work alone, on Windows that of the whole
process; macOS tells what it holds at the end.
"""

import multiprocessing
import platform
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import psutil
import torch
from rich.table import Table

from kitsam import __version__
from kitsam.system.console import say
from kitsam.system.files import write_json
from kitsam.system.options import Device
from kitsam.system.processes import use_bfloat16, use_cpu, wait_for_device

try:
    import resource
except ImportError:  # Windows
    resource = None

F = TypeVar("F")  # figures of one result

MIB = 2**20


class Measurement(NamedTuple):
    """One call in a process of its own."""

    value: Any  # what the function returned
    seconds: float
    peak: int  # bytes of memory above what the process held before, those of its own processes included


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Measurement:
    """Call a function of a module in a new Python process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, function, arguments).result()


def _measure(function: Callable[..., Any], arguments: tuple) -> Measurement:
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    value = function(*arguments)
    seconds = time.perf_counter() - start
    # Not ru_maxrss of this process, which starts at the peak of the process that started it.
    own = peak_memory(torch.device("cpu")) - before
    return Measurement(value, seconds, own + _peak_memory_of_children())


def _peak_memory_of_children() -> int:
    """Most bytes of any process that this one started and that has ended; 0 on Windows, which does not tell."""
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def machine() -> dict[str, str]:
    """What figures depend on: date, machine, versions."""
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


def write_figures(path: Path | None, name: str, figures: dict[str, Any]) -> None:
    """Write the figures of a benchmark with those of the machine, if the user named a file."""
    if path:
        write_json(path, {"benchmark": name, "machine": machine(), **figures})
        say(f"Figures: {path}")


def show_figures(title: str, results: Mapping[str, F], rows: Mapping[str, Callable[[F], str]]) -> None:
    """Print a table with a column for each result, by its name, and a row for each figure."""
    table = Table("", *results, title=title, title_justify="left")
    for label, text in rows.items():
        table.add_row(label, *map(text, results.values()))
    say(table)


class Mode(NamedTuple):
    """How a network computes."""

    bfloat16: bool
    compiled: bool


STOCK = Mode(bfloat16=False, compiled=False)


def default_precision(device: Device) -> Literal["bf16", "fp32"]:
    """The number format that kitsam uses on this device when no option sets it."""
    return "bf16" if use_bfloat16("auto", torch.device("cpu" if use_cpu(device) else "cuda")) else "fp32"


def kitsam_modes(device: Device, with_compiled: bool) -> dict[str, Mode]:
    """The modes in which kitsam is measured, by their names in tables."""
    modes = {"kitsam, fp32": Mode(False, False), "kitsam, bf16": Mode(True, False)}
    if with_compiled:
        precision = default_precision(device)
        modes[f"kitsam, {precision}, compiled"] = Mode(precision == "bf16", True)
    return modes


def describe_compiling(
    results: dict[str, dict[str, Any]], seconds: Callable[[dict[str, Any]], float], precision: str, unit: str
) -> str:
    """What compiling costs and saves, in a sentence; `seconds`: of one batch or step, from the result of one mode."""
    plain, compiled = results[f"kitsam, {precision}"], results[f"kitsam, {precision}, compiled"]
    # The first call takes longer uncompiled, too.
    cost = compiled["first_seconds"] - seconds(compiled) - (plain["first_seconds"] - seconds(plain))
    gain = seconds(plain) - seconds(compiled)
    effect = f"pays from {cost / gain:,.0f} {unit}" if gain > 0 else "saves nothing"
    return f"Compiling takes {cost:.0f} s and {effect}"


class Timing(NamedTuple):
    """Times of repeated calls."""

    value: Any  # what the first call returned
    first_seconds: float
    seconds: float  # mean of the others


def time_calls(call: Callable[[], Any], repeats: int, device: torch.device) -> Timing:
    """Time a first call and `repeats` more, each group until the device has finished."""
    start = time.perf_counter()
    value = call()
    wait_for_device(device)
    first_seconds = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    wait_for_device(device)
    return Timing(value, first_seconds, (time.perf_counter() - start) / repeats)


# Linux alone has them.
_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def reset_peak_memory(device: torch.device) -> None:
    """Start to measure the peak anew: of the GPU, or of this process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif _CLEAR_REFS.exists():
        _CLEAR_REFS.write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int:
    """Most bytes since `reset_peak_memory`: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    if not _STATUS.exists():
        memory = psutil.Process().memory_info()
        return getattr(memory, "peak_wset", memory.rss)
    with open(_STATUS, encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
