"""What a shard set will hold, decided before anything is encoded.

The labels of all cases are read once. Of a training case every slice with kidney is taken and a seeded share of
the others; of a validation case every slice. `plan.json` keeps that beside the shards, so that a restart goes on
with the same samples, and other settings in the same folder are refused.

Training cases are dealt by seed into groups, validation cases stand alone: these are the units of work and of resume,
the same whatever the number of processes. A group's samples are scattered over its shards, each of one stratum.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from kitsam.ct.case import CaseFiles, find_cases, try_case
from kitsam.ct.config import ViewsConfig
from kitsam.ct.labels import CLASS_NAMES
from kitsam.ct.split import Split, make_split, read_split
from kitsam.ct.strata import STRATA, stratum_of
from kitsam.ct.views import draw_view, view_masks
from kitsam.ct.volume import read_label
from kitsam.embedding.config import EmbedConfig
from kitsam.system.console import progress, warn
from kitsam.system.errors import CaseError, OptionError
from kitsam.system.files import write_json
from kitsam.system.records import read_record
from kitsam.system.seeds import generator

NAME = "plan.json"
READING_THREADS = 4  # unpacking gzip releases the interpreter
SLICES_AT_ONCE = 32  # labels turned into masks together


class SamplePlan(NamedTuple):
    """A slice in a view, and the pixels of each class on its stored mask."""

    slice: int
    view: int
    background: int
    kidney: int
    tumor: int
    cyst: int

    @property
    def pixels(self) -> tuple[int, int, int, int]:
        return self[2:]

    @property
    def stratum(self) -> str:
        return stratum_of(self.pixels)


@dataclass(frozen=True)
class CasePlan:
    voxels: tuple[int, int, int, int]  # per class, on disk
    samples: tuple[SamplePlan, ...]


@dataclass(frozen=True)
class Plan:
    settings: dict[str, Any]  # all that decides the set's content
    split: Split
    cases: dict[str, CasePlan]
    skipped: dict[str, str]  # case -> why its labels cannot be used


@dataclass(frozen=True)
class Unit:
    """Cases whose slices are embedded together, and the shards they go to."""

    name: str
    cases: tuple[str, ...]
    shards: dict[str, tuple[tuple[str, SamplePlan], ...]]  # shard name -> (case, sample)

    @property
    def samples(self) -> int:
        return sum(len(shard) for shard in self.shards.values())


def count_samples(units: Sequence[Unit]) -> int:
    return sum(unit.samples for unit in units)


def make_plan(config: EmbedConfig, settings: dict[str, Any]) -> Plan:
    """Read every case's labels, or the plan of an earlier start.

    Cases that were refused before are tried again, since their files may have been mended. Raises `OptionError` where
    `config.out` was begun with other settings, or no case can be used.
    """
    files = find_cases(config.data)
    earlier = read_plan(config.out) if (config.out / NAME).exists() else None
    if earlier:
        _check_settings(config.out, earlier.settings, settings)
        plans, split = earlier.cases, earlier.split
        _check_cases(config.out, split, files)
    else:
        plans = {}
        names = tuple(files)
        split = (
            read_split(config.splits, names) if config.splits else make_split(names, config.val_fraction, config.seed)
        )
    cases, skipped = _read_cases([files[name] for name in (*split.train, *split.val)], plans, set(split.train), config)
    if not any(name in cases for name in split.train) or not any(name in cases for name in split.val):
        reasons = "; ".join(skipped.values())
        raise OptionError(f"--data: no usable case for training or none for validation in {config.data}: {reasons}")
    return Plan(settings, split, cases, skipped)


def _check_settings(out: Path, earlier: dict[str, Any], settings: dict[str, Any]) -> None:
    for part, value in settings.items():
        if earlier.get(part) != value:
            raise OptionError(f"--out: {out} was begun with other settings: {part} {earlier.get(part)}, now {value}")


def _check_cases(out: Path, split: Split, files: dict[str, CaseFiles]) -> None:
    missing = [name for name in (*split.train, *split.val) if name not in files]
    if missing:
        raise OptionError(f"--data: {', '.join(missing)} of the shard set begun in {out} are no longer there")


def _read_cases(
    files: Sequence[CaseFiles], plans: dict[str, CasePlan], training: set[str], config: EmbedConfig
) -> tuple[dict[str, CasePlan], dict[str, str]]:
    """Plans of the usable cases, and why each other one is not; `plans`: those of an earlier start."""
    cases, skipped = {}, {}

    def plan(case: CaseFiles) -> CasePlan:
        return plans.get(case.name) or _plan_case(case, case.name in training, config)

    with ThreadPoolExecutor(READING_THREADS) as threads, progress("Reading labels", len(files), "cases") as tick:
        for case, result in zip(files, threads.map(partial(try_case, plan), files)):
            tick(1, case.name)
            if isinstance(result, CaseError):
                warn(f"{case.name} is left out: {result}")
                skipped[case.name] = str(result)
            else:
                cases[case.name] = result
    return cases, skipped


def _plan_case(files: CaseFiles, training: bool, config: EmbedConfig) -> CasePlan:
    if not files.imaging.is_file():
        raise CaseError(f"{files.imaging}: no such file")
    label = read_label(files.segmentation).voxels
    voxels = np.bincount(label.ravel(), minlength=len(CLASS_NAMES))
    slices = _training_slices(label, files.name, config) if training else range(len(label))
    views = config.views.count if training else 1
    places = [(z, view) for z in slices for view in range(views)]
    masks = masks_in_views(label, places, config.views, config.seed, files.name)
    pixels = (np.bincount(mask.ravel(), minlength=len(CLASS_NAMES)).tolist() for mask in masks)
    samples = (SamplePlan(z, view, *counts) for (z, view), counts in zip(places, pixels))
    return CasePlan(tuple(voxels.tolist()), tuple(samples))


def _training_slices(label: np.ndarray, name: str, config: EmbedConfig) -> list[int]:
    """All slices with a label, and a random share of the others."""
    positive = label.any(axis=(1, 2))
    background = np.flatnonzero(~positive)
    count = min(len(background), round(config.background_ratio * positive.sum()))
    share = generator(config.seed, "background", name).choice(background, count, replace=False)
    return sorted([*np.flatnonzero(positive).tolist(), *share.tolist()])


def masks_in_views(
    label: np.ndarray,  # (S, H, W) uint8
    places: list[tuple[int, int]],  # slice and view
    views: ViewsConfig,
    seed: int,
    name: str,
) -> Iterator[np.ndarray]:
    """Yield the stored mask, (h, w) uint8, of each slice and view of a case."""
    for first in range(0, len(places), SLICES_AT_ONCE):
        part = places[first : first + SLICES_AT_ONCE]
        labels = torch.from_numpy(label[[z for z, _ in part]])
        yield from view_masks(labels, [draw_view(views, seed, name, z, view) for z, view in part]).numpy()


def unit_contents(unit: Unit) -> dict[str, Any]:
    """What a unit's sidecars keep, to tell whether they were written by the same plan."""
    return {"cases": list(unit.cases), "samples": unit.samples}


def write_plan(out: Path, plan: Plan) -> None:
    write_json(out / NAME, asdict(plan))


def read_plan(out: Path) -> Plan:
    """Raises `KitsamError` naming the file when it is damaged."""
    return read_record(out / NAME, Plan)


def units_of(plan: Plan, config: EmbedConfig) -> list[Unit]:
    """Groups of training cases, then the validation cases."""
    order = generator(config.seed, "groups").permutation(len(plan.split.train))
    cases = [plan.split.train[index] for index in order]
    groups = [cases[first : first + config.group_cases] for first in range(0, len(cases), config.group_cases)]
    units = [_group(number, members, plan, config) for number, members in enumerate(groups)]
    for name in plan.split.val:
        if name in plan.cases:
            samples = tuple((name, sample) for sample in plan.cases[name].samples)
            units.append(Unit(name, (name,), {f"val/{name}.tar": samples}))
    return units


def _group(number: int, cases: Sequence[str], plan: Plan, config: EmbedConfig) -> Unit:
    usable = tuple(name for name in cases if name in plan.cases)
    samples = [(name, sample) for name in usable for sample in plan.cases[name].samples]
    shards = {}
    for stratum in STRATA:
        members = [(name, sample) for name, sample in samples if sample.stratum == stratum]
        count = -(-len(members) // config.shard_samples)
        # Each shard gets slices of many cases; inside a shard they stay in case order, so that a case is read once.
        places = generator(config.seed, "shards", number, stratum).permutation(len(members)) % max(count, 1)
        for shard in range(count):
            samples_here = tuple(member for member, place in zip(members, places) if place == shard)
            shards[f"train/{stratum}-{number:04d}-{shard:02d}.tar"] = samples_here
    return Unit(f"group {number:04d}", usable, shards)
