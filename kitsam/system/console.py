"""What a command says while it works: a progress bar on a terminal, plain lines anywhere else.

Rank 0 alone speaks, on stderr for progress and stdout for results. A live bar would garble a SLURM log, so
where stderr is no terminal a line with the time of day, count, rate and remaining time appears every half minute
instead. What cannot be shown never ends a command (`streams.py`).
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from kitsam.system.streams import ERR, OUT

SECONDS_BETWEEN_LINES = 30.0

LOG_WIDTH = 120  # columns of a table where stdout is no terminal

_stdout = Console(file=OUT, soft_wrap=True, width=None if OUT.isatty() else LOG_WIDTH)
_stderr = Console(file=ERR, soft_wrap=True)


def is_main_process() -> bool:
    """Rank 0; torchrun, accelerate and SLURM starters set RANK before Python starts."""
    return int(os.environ.get("RANK", "0")) == 0


class Line(NamedTuple):
    """What was said, to be shown later."""

    text: str
    is_warning: bool = False

    def show(self) -> None:
        console = _stderr if self.is_warning else _stdout
        console.print(f"warning: {self.text}" if self.is_warning else self.text, markup=False, highlight=False)


_kept: list[list[Line]] = []  # where lines go instead of the terminal, the innermost last


@contextmanager
def keep_lines() -> Iterator[list[Line]]:
    """Yield a list; what is said in the block goes there, from any process, and is shown only after an error."""
    lines: list[Line] = []
    _kept.append(lines)
    try:
        yield lines
    except BaseException:
        for line in lines:
            line.show()
        raise
    finally:
        _kept.pop()


def say(message: object) -> None:
    """A line or a rich table on stdout, from rank 0."""
    if _kept:
        _kept[-1].append(Line(str(message)))
    elif is_main_process():
        _stdout.print(message, markup=False, highlight=False)


def warn(message: str) -> None:
    """A line on stderr, from whichever process met the trouble."""
    line = Line(message, is_warning=True)
    if _kept:
        _kept[-1].append(line)
    else:
        line.show()


class Tick(Protocol):
    def __call__(self, advance: float = 1, note: str = "") -> None: ...


@contextmanager
def progress(description: str, total: int, unit: str, done: int = 0) -> Iterator[Tick]:
    """Yield a function to call as work gets done; shows count, rate and remaining time."""
    if not is_main_process():
        yield lambda advance=1, note="": None
    elif ERR.isatty():
        with _bar(description, total, unit, done) as tick:
            yield tick
    else:
        with _lines(description, total, unit, done) as tick:
            yield tick


@contextmanager
def _bar(description: str, total: int, unit: str, done: int) -> Iterator[Tick]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("so far,"),
        TimeRemainingColumn(),
        TextColumn("left"),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=_stderr) as bar:
        task = bar.add_task(description, total=total, completed=done, rate="", note="")
        rate = _Rate()

        def tick(advance: float = 1, note: str = "") -> None:
            per_second = rate.after(advance)
            bar.update(task, advance=advance, rate=_rate_text(per_second, unit), note=note)

        yield tick


@contextmanager
def _lines(description: str, total: int, unit: str, done: int) -> Iterator[Tick]:
    rate, last, count = _Rate(), time.monotonic(), float(done)

    def tick(advance: float = 1, note: str = "") -> None:
        nonlocal last, count
        count += advance
        per_second = rate.after(advance)
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN_LINES and count < total:
            return
        last = now
        left = (total - count) / per_second if per_second else 0
        when = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
        work = f"{count:.0f}/{total} {unit}, {_rate_text(per_second, unit)}, {time_text(left)} left"
        line = f"{when} {description}: {work} {note}"
        ERR.line(line.rstrip())

    yield tick


class _Rate:
    """Work per second since the first call."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.work = 0.0

    def after(self, advance: float) -> float:
        self.work += advance
        return self.work / max(time.monotonic() - self.start, 1e-6)


def _rate_text(per_second: float, unit: str) -> str:
    """Slow work by the minute or the hour, so that its rate is no row of zeros."""
    for seconds, name in ((1, "s"), (60, "min")):
        if per_second * seconds >= 1:
            return f"{per_second * seconds:.1f} {unit}/{name}"
    return f"{per_second * 3600:.1f} {unit}/h"


def time_text(seconds: float) -> str:
    """Minutes and seconds, from an hour on hours and minutes, from two days on days and hours."""
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes}:{int(seconds) % 60:02d}"


def size_text(size: int) -> str:
    """Bytes as a person reads them."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
