"""`kitsam experiment`: run what is missing of the variants, then write their table and page.

Each job is a command of its own, as it could be given by hand, started with its options in a file; what it prints is
kept beside them. A job that fails takes with it only those that need its result. Killed at any time, the same command
goes on: what is done is known by its record, what was begun goes on as its own command does.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kitsam.experiment.config import ExperimentConfig
from kitsam.experiment.jobs import Book, Job, Plan, Record, make_plan
from kitsam.experiment.page import PAGE, write_page
from kitsam.experiment.recipe import read_recipe
from kitsam.experiment.table import JSON, MARKDOWN, make_table, results_table, write_table
from kitsam.system.console import progress, say, warn
from kitsam.system.errors import OptionError
from kitsam.system.files import read_json, remove_leftovers, write_json
from kitsam.system.head import say_head
from kitsam.system.processes import PR_SET_PDEATHSIG

POLL = 0.2  # seconds between two looks at the jobs that run
PATIENCE = 60.0  # seconds that a job has to save its state when it is told to end
PLACE = "experiment.json"


def run(config: ExperimentConfig) -> int:
    recipe = read_recipe(config.file, config.data, config.out)
    plan = make_plan(recipe, config.data, config.out)
    book = Book(config.out)
    mine = _of_this_share(config, plan)
    missing = [job for job in mine if not book.record(job.name).done]
    say_head("experiment", config, f"{config.data}, as {config.file} says", processes=config.side_by_side)
    _announce(config, plan, mine, missing)
    if config.dry_run:
        for job in missing:
            say(" ".join(job.words(config.start, book.folder / f"{job.name}.yaml")))
        return 0
    _check_place(config)
    remove_leftovers(book.folder)
    failed = _run_all(config, plan, book, mine, missing) if missing else {}
    for name, why in failed.items():
        warn(f"{name} is missing: {why}")
    if config.part in ("all", "table"):
        table = make_table(recipe, plan, book, str(config.data))
        write_table(config.out, table)
        write_page(config.out, table)
        say(results_table(table))
        say(f"Wrote {config.out / MARKDOWN}, {config.out / JSON}, {config.out / PAGE}")
    return 1 if failed else 0


def _check_place(config: ExperimentConfig) -> None:
    """Raises `OptionError` where the folder holds an experiment on other data."""
    path, data = config.out / PLACE, str(config.data.absolute())
    if not path.is_file():
        write_json(path, {"data": data})
    elif (earlier := read_json(path).get("data")) != data:
        raise OptionError(f"--data: {config.out} holds an experiment on {earlier}, not {data}: choose another --out")


def _of_this_share(config: ExperimentConfig, plan: Plan) -> list[Job]:
    """The jobs of this part and share; trainings that start from one another stay together."""
    jobs = [job for job in plan.jobs.values() if config.part in ("all", job.part)]
    names = {job.name for job in jobs}
    first_of: dict[str, str] = {}  # the job in whose share each is
    for job in jobs:
        before = [need for need in job.needs if need in names and plan.jobs[need].part == job.part]
        first_of[job.name] = first_of[before[0]] if before else job.name
    number, shares = config.share_of
    firsts = [name for name, first in first_of.items() if name == first]
    return [job for job in jobs if firsts.index(first_of[job.name]) % shares == number - 1]


def _announce(config: ExperimentConfig, plan: Plan, mine: list[Job], missing: list[Job]) -> None:
    counts = {part: sum(job.part == part for job in missing) for part in ("embed", "train", "evaluate")}
    work = ", ".join(f"{count} to {part}" for part, count in counts.items() if count) or "nothing"
    part = "" if config.part == "all" else f" ({config.part})"
    share = "" if config.share == "1/1" else f", share {config.share}"
    say(f"{len(plan.results)} variants, {len(mine)} jobs{part}{share}; to run: {work}. Logs: {config.out / 'jobs'}")


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen
    start: float  # time.monotonic


def _run_all(config: ExperimentConfig, plan: Plan, book: Book, mine: list[Job], missing: list[Job]) -> dict[str, str]:
    """Run the jobs, each when what it needs is done. Returns why some could not be, by name."""
    waiting = list(missing)
    failed: dict[str, str] = {}
    running: list[_Running] = []
    own = {job.name for job in mine}
    with _jobs_end_with_us(running), progress("Experiment", len(mine), "jobs", len(mine) - len(missing)) as tick:
        while waiting or running:
            for job in list(waiting):
                state, why = _readiness(job, own, failed, book)
                if state == "never":
                    failed[job.name] = why
                    waiting.remove(job)
                    tick(note=job.name)
                elif state == "ready" and len(running) < config.side_by_side:
                    waiting.remove(job)
                    running.append(_start(config, book, job))
            for one in list(running):
                if one.process.poll() is not None:
                    running.remove(one)
                    if why := _end(book, one):
                        failed[one.job.name] = why
                    tick(note=one.job.name)
            time.sleep(POLL)
    return failed


def _readiness(job: Job, own: set[str], failed: dict[str, str], book: Book) -> tuple[str, str]:
    """`ready`, `waits`, or `never` and why."""
    for need in job.needs:
        if need in failed:
            return "never", f"it needs {need}"
        if not book.record(need).done:
            return ("waits", "") if need in own else ("never", f"it needs {need}, which another part or share runs")
    return "ready", ""


def _start(config: ExperimentConfig, book: Book, job: Job) -> _Running:
    environment = dict(os.environ)
    if config.side_by_side > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // config.side_by_side)))
    words = job.words(config.start, book.options(job))
    try:
        # The process has the file open for itself.
        with open(book.log(job), "ab") as log:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, preexec_fn=_die_with_parent
            )
    except OSError as error:
        raise OptionError(f"--start: {words[0]}: {error.strerror}") from error
    return _Running(job, process, time.monotonic())


# Windows and macOS have no such call; there a job that outlives its experiment ends by itself.
_die_with_parent = (
    (lambda: ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)) if sys.platform == "linux" else None
)


def _end(book: Book, one: _Running) -> str | None:
    """Keep the record of a job that has ended. Returns why it has no result, if it has none."""
    code = one.process.returncode
    before = book.record(one.job.name)
    left_out = code == 1 and one.job.has_result
    done = (code == 0 or left_out) and _is_finished(one.job)
    book.keep(one.job.name, Record(done, before.seconds + time.monotonic() - one.start, left_out))
    if done:
        return None
    last = _last_line(book.log(one.job))
    return f"exit code {code}: {last} (all of it: {book.log(one.job)})"


def _is_finished(job: Job) -> bool:
    """A training that a signal stops ends with exit code 0 too."""
    from kitsam.training.checkpoint import is_finished

    return job.part != "train" or is_finished(job.folder)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    errors = [line for line in lines if "error:" in line]
    return (errors or [line for line in lines if line.strip()] or [""])[-1].strip()


@contextmanager
def _jobs_end_with_us(running: list[_Running]) -> Iterator[None]:
    """A command that is told to end tells its jobs, and waits until they have saved what they have."""

    def stop(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except BaseException:
        for one in running:
            one.process.terminate()
        for one in running:
            try:
                one.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                one.process.kill()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
