"""A run that goes on beyond its end: the same command with more `--steps`.

`schedule.json` in the run's folder holds the ends that the run has had and the step at which the last one was added; a
run that was never prolonged has none. An end is kept once a step of the tail before it was saved; the others are
replaced, so that a run prolonged by mistake can be prolonged anew.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from kitsam.system.console import say
from kitsam.system.errors import OptionError
from kitsam.system.seals import read_sealed, write_sealed
from kitsam.training.config import TrainConfig

SCHEDULE = "schedule.json"


@dataclass(frozen=True)
class Schedule:
    """The content of `schedule.json`."""

    ends: tuple[int, ...]  # steps at which the learning rate comes to its final value, rising
    prolonged_at: int = -1  # steps done when the last end was added; -1: never


def read_schedule(out: Path, steps: int) -> Schedule:
    """`steps`: of a run that was never prolonged. Raises `KitsamError` for a damaged file."""
    path = out / SCHEDULE
    return read_sealed(path, Schedule) if path.exists() else Schedule((steps,))


def prolong(config: TrainConfig, earlier_steps: int, done: int) -> Schedule:
    """The schedule of the run in `config.out` with `config.steps`, written where it differs from the one before.

    `earlier_steps`: as its config.yaml has them; `done`: those of its last checkpoint. Raises `OptionError` for fewer
    steps than the run has or is to have.
    """
    earlier = read_schedule(config.out, earlier_steps)
    planned = earlier.ends[-1]
    if config.steps == planned:
        return earlier
    if config.steps < planned:
        raise OptionError(
            f"--steps: {config.out} holds a run of {planned} steps, {done} of them done: it can be prolonged, "
            f"not cut to {config.steps}: choose another --out"
        )
    begun = tuple(end for start, end in pairwise((0, *earlier.ends)) if start < done)
    schedule = Schedule((*begun, config.steps), done)
    if begun:
        write_sealed(config.out / SCHEDULE, asdict(schedule))
        rates = config.optimizer
        say(
            f"Prolonged from {begun[-1]} to {config.steps} steps: over the added ones the learning rate falls from "
            f"{rates.peak_rate:g} to {rates.final_rate:g} in another half cosine"
        )
    else:
        (config.out / SCHEDULE).unlink(missing_ok=True)
        schedule = Schedule(schedule.ends)
    return schedule
