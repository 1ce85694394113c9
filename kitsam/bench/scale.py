"""`kitsam bench scale`: embed, train and evaluate on 1 to 512 GPUs, computed from what one device takes.

Work is shared out by the functions that share it out in earnest, on the sizes of the cases; what a process then takes
is added up from measured or computed times (`costs.py`). Of what goes on side by side (encoder, host, storage) the
slowest counts; what waits for it (joining, the gradients' way, scoring) is added. The largest of all is named as the
bound. Storage counts as if no page cache held anything.
"""

import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.table import Table

from kitsam.bench.config import BenchScaleConfig
from kitsam.bench.costs import BATCH, Costs, costs_of, laptop
from kitsam.bench.measure import write_figures
from kitsam.ct.split import make_split
from kitsam.embedding.config import EmbedConfig
from kitsam.embedding.plan import CasePlan, Plan, SamplePlan
from kitsam.embedding.shares import Span, count_slices, share_out
from kitsam.embedding.units import Unit, units_of
from kitsam.evaluation.spans import share_cases
from kitsam.inference.config import CascadeConfig
from kitsam.system.console import say
from kitsam.system.errors import KitsamError

DEVICES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SAMPLE_BYTES = 2 << 20  # grid 64, float16
# KiTS23 (489 cases): slices of a case by the share of cases that are smaller; slices that hold a label, a tumor.
SIZES = {
    0: 29, 0.1: 51, 0.25: 84, 0.5: 104, 0.6: 143, 0.75: 211, 0.8: 274, 0.85: 423, 0.9: 525, 0.95: 636, 0.98: 734,
    1: 1059,
}  # fmt: skip
CASES, LABELLED, WITH_TUMOR = 489, 0.346, 0.128
BOXES = 1.8  # kidneys on a slice with a label
DECODERS, STEPS, VALIDATIONS = 3, 10_000, 20  # of the goals
GOALS = {"one H100": 3600.0, "a laptop's processor overnight, lite_medsam": 10 * 3600.0}  # seconds


class Rate(NamedTuple):
    """How a stage does on some devices."""

    seconds: float
    slices: int
    balance: float  # of slices: share of the largest share
    bound: str

    @property
    def per_second(self) -> float:
        return self.slices / self.seconds


class Work(NamedTuple):
    """What is to be done, of cases with so many slices."""

    units: dict[str, Unit]
    val: list[int]  # slices of each validation case


def run(config: BenchScaleConfig) -> int:
    costs, work = costs_of(config), work_of(read_sizes(config.cases), config.views)
    stages = {"embed": embed_rate, "train": train_rate, "evaluate": evaluate_rate}
    rates = {name: {count: rate(costs, work, count) for count in DEVICES} for name, rate in stages.items()}
    say(_cost_table(costs))
    for name, found in rates.items():
        say(_rate_table(name, found))
    goals = {name: goal(one, work) for name, one in zip(GOALS, (costs, laptop()))}
    for name, parts in goals.items():
        say(_goal_table(name, parts))
    figures = {
        "costs": {name: {"value": value, "source": source} for name, (value, source) in asdict(costs).items()},
        "stages": {
            name: {count: {**one._asdict(), "efficiency": _efficiency(found, count)} for count, one in found.items()}
            for name, found in rates.items()
        },
        "goals": {name: {**parts, "limit": GOALS[name]} for name, parts in goals.items()},
    }
    write_figures(config.json, "scale", figures)
    return 0


def read_sizes(path: Path | None) -> list[int]:
    """Slices of each case."""
    if path is None:
        return np.interp((np.arange(CASES) + 0.5) / CASES, list(SIZES), list(SIZES.values())).astype(int).tolist()
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [int(row["slices"]) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        raise KitsamError(f"{path}: no CSV with whole numbers in a column `slices`: {error}") from error


def work_of(sizes: Sequence[int], views: int) -> Work:
    """The units that `kitsam embed` makes of such cases, with its own defaults."""
    config = EmbedConfig(Path(), Path())
    names = [f"case_{number:05d}" for number in range(len(sizes))]
    split = make_split(names, config.val_fraction, config.seed)
    cases = {name: _case(size, views, name in split.val, config) for name, size in zip(names, sizes)}
    units = units_of(Plan({}, split, (), cases, {}), config)
    return Work({unit.name: unit for unit in units}, [len(cases[name].val) for name in split.val])


def _case(size: int, views: int, validates: bool, config: EmbedConfig) -> CasePlan:
    labelled, tumor = round(LABELLED * size), round(WITH_TUMOR * size)
    taken = min(size, round(labelled * (1 + config.background_ratio)))

    def sample(z: int, view: int) -> SamplePlan:
        return SamplePlan(z, view, 1, int(z < labelled), int(z < tumor), 0)

    train = tuple(sample(z, view) for z in range(taken) for view in range(views))
    val = tuple(sample(z, 0) for z in range(size)) if validates else ()
    return CasePlan("", (1, 1, 1, 1), train=train, val=val)


def embed_rate(costs: Costs, work: Work, devices: int) -> Rate:
    line = [Span(unit.name, 0, len(unit.members)) for unit in work.units.values()]
    hands = share_out(line, work.units, EmbedConfig.batch_size, devices)
    largest = max(count_slices(hand, work.units) for hand in hands)
    slices = count_slices(line, work.units)
    shared = {span.unit for hand in hands for span in hand if not span.is_whole(work.units[span.unit])}
    joined = sum(work.units[name].samples for name in shared)
    beside = {
        "encoder": largest * costs.slice.value,
        "host": largest * costs.pack.value,
        "storage": slices * SAMPLE_BYTES / costs.storage.value,
    }
    joining = max(joined / devices * costs.join.value, 2 * joined * SAMPLE_BYTES / costs.storage.value)
    return _rate(slices, slices / devices / largest, beside, {"joining": joining})


def train_rate(costs: Costs, work: Work, devices: int) -> Rate:
    """A step of one decoder, with 64 slices or one for each device."""
    batch = max(BATCH, devices)
    own = batch / devices
    beside = {
        "decoder": own / BATCH * costs.step.value,
        "launching": costs.launch.value,
        "reading": own * costs.read.value,
        "storage": batch * SAMPLE_BYTES / costs.storage.value,
    }
    return _rate(batch, 1.0, beside, {"gradients' way": exchange_seconds(costs, devices)})


def exchange_seconds(costs: Costs, devices: int) -> float:
    """Each sends twice what it does not keep, in messages that go up a tree and down."""
    if devices == 1:
        return 0.0
    hops = 2 * np.ceil(np.log2(devices)) * costs.hop.value
    between_two = costs.exchange.value - 2 * costs.hop.value
    return float(2 * (devices - 1) / devices * between_two + hops)


def evaluate_rate(costs: Costs, work: Work, devices: int) -> Rate:
    shares = share_cases(work.val, CascadeConfig.batch_size, devices)
    largest = max(sum(part.stop - part.first for part in share) for share in shares)
    cleaned = max(sum(work.val[part.item] for part in share) for share in shares)
    scored = max(sum(work.val[part.item] for part in share if part.first == 0) for share in shares)
    answers = 1 + 2 * BOXES * LABELLED  # ROI, and each kidney's tumor and cyst
    labels = {
        "decoders": largest * answers * costs.answer.value,
        "reading": largest * (1 + LABELLED) * costs.read.value,
        "cleaning up": cleaned * costs.cleanup.value,
    }
    # Scored beside the labelling of the next cases, but for the last one.
    scoring = max(max(work.val) * costs.score.value, scored * costs.score.value - sum(labels.values()))
    after = labels | {"scoring": scoring}
    return _rate(sum(work.val), sum(work.val) / devices / largest, {}, after)


def _rate(slices: int, balance: float, beside: dict[str, float], after: dict[str, float]) -> Rate:
    """`beside`: seconds of what goes on at once, `after`: of what comes one after another."""
    parts = beside | after
    seconds = max(beside.values(), default=0.0) + sum(after.values())
    return Rate(seconds, slices, balance, max(parts, key=parts.__getitem__))


def goal(costs: Costs, work: Work) -> dict[str, float]:
    """Seconds of each part of the whole way on one device."""
    validation = sum(work.val) * (costs.answer.value + costs.read.value)
    return {
        "embed": embed_rate(costs, work, 1).seconds,
        "train": DECODERS * STEPS * train_rate(costs, work, 1).seconds,
        "validate": DECODERS * VALIDATIONS * validation,
        "evaluate": evaluate_rate(costs, work, 1).seconds,
    }


def _efficiency(rates: dict[int, Rate], count: int) -> float:
    return rates[count].per_second / (count * rates[1].per_second)


def _cost_table(costs: Costs) -> Table:
    table = Table("of one process", "", "where from", title="What it is computed from")
    table.columns[1].justify = "right"
    for name, (value, source) in asdict(costs).items():
        text = f"{value / 1e9:.0f} GB/s" if name == "storage" else f"{value * 1e3:.3g} ms"
        table.add_row(name, text, source)
    return table


def _rate_table(name: str, rates: dict[int, Rate]) -> Table:
    table = Table("GPUs", "slices/s", "balance", "efficiency", "bound", title=f"kitsam {name}")
    for count, rate in rates.items():
        efficiency = _efficiency(rates, count)
        speed = f"{rate.per_second:,.0f}" if rate.per_second >= 100 else f"{rate.per_second:.3g}"
        table.add_row(str(count), speed, f"{rate.balance:.0%}", f"{efficiency:.0%}", rate.bound)
    return table


def _goal_table(name: str, parts: dict[str, float]) -> Table:
    table = Table("", "minutes", title=f"All of KiTS23, three decoders of 10,000 steps of 64: {name}")
    table.columns[1].justify = "right"
    total = sum(parts.values())
    for part, seconds in {**parts, "together": total}.items():
        table.add_row(part, f"{seconds / 60:,.1f}")
    table.add_row("goal", f"{GOALS[name] / 60:,.0f}")
    table.add_row("times the goal", f"{total / GOALS[name]:.2f}")
    return table
