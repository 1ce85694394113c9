"""What a shard set will hold, decided before anything is encoded.

The labels of all cases are read once. Of a training case every slice with kidney is taken and a seeded share of
the others; of a validation case every slice. `plan.json` keeps that beside the shards, so that a restart goes on
with the same samples, and other settings, another split or other labels in the same folder are refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from kitsam.ct.body import BodyBox, find_body
from kitsam.ct.case import CaseFiles, check_files, find_cases, read_truth, try_case
from kitsam.ct.config import ViewsConfig
from kitsam.ct.labels import CLASS_NAMES
from kitsam.ct.split import Split, make_folds, make_split, read_folds, read_split
from kitsam.ct.strata import stratum_of
from kitsam.ct.views import draw_view, view_masks
from kitsam.ct.volume import read_image
from kitsam.embedding.config import EmbedConfig
from kitsam.shards.manifest import SHARD_NAME
from kitsam.shards.units import PLAN
from kitsam.system.console import progress, warn
from kitsam.system.errors import CaseError, OptionError
from kitsam.system.files import sha256_of
from kitsam.system.seals import read_sealed, write_sealed
from kitsam.system.seeds import generator

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
    """What is taken of a case."""

    segmentation: str  # SHA-256 of the file with its labels
    voxels: tuple[int, int, int, int]  # per class, on disk, or of what a cut leaves
    body: BodyBox | None = None  # what its slices are cut to
    train: tuple[SamplePlan, ...] = ()
    val: tuple[SamplePlan, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The content of `plan.json`, but for the names of the units' shards, which follow from it (`units.py`)."""

    settings: dict[str, Any]  # all that decides the set's content
    split: Split  # of a set with folds: all cases on both sides
    folds: tuple[tuple[str, ...], ...]  # validation cases of each; none: the set has one split
    cases: dict[str, CasePlan]
    skipped: dict[str, str]  # case -> why its labels cannot be used


def make_plan(config: EmbedConfig, settings: dict[str, Any]) -> Plan:
    """Read every case's labels, or the plan of an earlier start, which decides on a number format that is left open.

    Cases that were refused before are tried again, since their files may have been mended. Raises `OptionError` where
    `config.out` was begun with other settings, another split or other labels, or no case can be used.
    """
    files = find_cases(config.data)
    earlier = read_plan(config.out) if (config.out / PLAN).exists() else None
    if earlier:
        if settings["precision"] == "auto":
            settings = {**settings, "precision": earlier.settings.get("precision")}
        _check_settings(config.out, earlier.settings, settings)
        _check_split(config, earlier, tuple(files))
        split, folds = earlier.split, earlier.folds
    else:
        split, folds = _draw_split(config, tuple(files))
    names = sorted({*split.train, *split.val})
    _warn_of_others(config, names, files)
    cases, skipped = _read_cases([files[name] for name in names], earlier.cases if earlier else {}, split, config)
    if not any(name in cases for name in split.train) or not any(name in cases for name in split.val):
        reasons = "; ".join(skipped.values())
        raise OptionError(f"--data: no usable case for training or none for validation in {config.data}: {reasons}")
    return Plan(settings, split, folds, cases, skipped)


def _draw_split(config: EmbedConfig, names: Sequence[str]) -> tuple[Split, tuple[tuple[str, ...], ...]]:
    """The split, and the validation cases of each fold where folds are asked for."""
    if config.folds is None:
        if config.splits:
            return read_split(config.splits, names), ()
        return make_split(names, config.val_fraction, config.seed), ()
    if config.splits:
        folds = read_folds(config.splits, names, config.folds)
    else:
        folds = make_folds(names, config.folds, config.seed)
    everyone = tuple(sorted(name for fold in folds for name in fold))
    return Split(everyone, everyone, None if config.splits else config.seed), folds


def _check_settings(out: Path, earlier: dict[str, Any], settings: dict[str, Any]) -> None:
    for part, value in settings.items():
        if earlier.get(part) != value:
            raise OptionError(f"--out: {out} was begun with other settings: {part} {earlier.get(part)}, now {value}")


def _check_split(config: EmbedConfig, earlier: Plan, names: Sequence[str]) -> None:
    missing = sorted({*earlier.split.train, *earlier.split.val} - {*names})
    if missing:
        raise OptionError(f"--data: {', '.join(missing)} of the shard set begun in {config.out} are no longer there")
    if config.splits:
        split, folds = _draw_split(config, names)
        if (split.train, split.val, folds) != (earlier.split.train, earlier.split.val, earlier.folds):
            raise OptionError(f"--splits: {config.out} was begun with another split than that of {config.splits}")


def _warn_of_others(config: EmbedConfig, names: Sequence[str], files: dict[str, CaseFiles]) -> None:
    others = sorted(files.keys() - {*names})
    if others:
        source = config.splits or f"the split that {config.out} was begun with"
        warn(f"left out, on neither side of {source}: {', '.join(others)}")


def _read_cases(
    files: Sequence[CaseFiles], plans: dict[str, CasePlan], split: Split, config: EmbedConfig
) -> tuple[dict[str, CasePlan], dict[str, str]]:
    """Plans of the usable cases, and why each other one is not; `plans`: those of an earlier start.

    Raises `OptionError` where the labels of a case are not those of the earlier start.
    """
    cases, skipped = {}, {}
    train, val = {*split.train}, {*split.val}

    def plan(case: CaseFiles) -> CasePlan:
        check_files(case)
        if not SHARD_NAME.fullmatch(f"val/{case.name}.tar"):
            raise CaseError(
                f"{case.imaging}: a case name that names a shard has letters of ASCII, digits, - and _ only"
            )
        segmentation = sha256_of(case.segmentation)
        if case.name not in plans:
            return _plan_case(case, segmentation, case.name in train, case.name in val, config)
        if plans[case.name].segmentation != segmentation:
            raise OptionError(
                f"--data: {case.segmentation}: not the labels that {config.out} was begun with: choose another --out"
            )
        return plans[case.name]

    with ThreadPoolExecutor(READING_THREADS) as threads, progress("Reading labels", len(files), "cases") as tick:
        for case, result in zip(files, threads.map(partial(try_case, plan), files)):
            tick(1, case.name)
            if isinstance(result, CaseError):
                warn(f"{case.name} is left out: {result}")
                skipped[case.name] = str(result)
            else:
                cases[case.name] = result
    return cases, skipped


def _plan_case(files: CaseFiles, segmentation: str, train: bool, val: bool, config: EmbedConfig) -> CasePlan:
    label = read_truth(files).voxels
    body = None
    if config.input.crop == "body":
        scan = read_image(files.imaging)
        body = find_body(scan.voxels, scan.spacing[1:])
        label = body.cut(label)
    voxels = np.bincount(label.ravel(), minlength=len(CLASS_NAMES))
    slices = _training_slices(label, files.name, config) if train else []
    views = [(z, view) for z in slices for view in range(config.views.count)]
    return CasePlan(
        segmentation,
        tuple(voxels.tolist()),
        body,
        _plan_samples(label, views, files.name, config),
        _plan_samples(label, [(z, 0) for z in range(len(label))], files.name, config) if val else (),
    )


def _plan_samples(
    label: np.ndarray,  # (S, H, W) uint8
    places: list[tuple[int, int]],  # slice and view
    name: str,
    config: EmbedConfig,
) -> tuple[SamplePlan, ...]:
    masks = masks_in_views(label, places, config.views, config.seed, name)
    pixels = (np.bincount(mask.ravel(), minlength=len(CLASS_NAMES)).tolist() for mask in masks)
    return tuple(SamplePlan(z, view, *counts) for (z, view), counts in zip(places, pixels))


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


def write_plan(out: Path, plan: Plan, shards: Mapping[str, Sequence[str]]) -> None:
    """`shards`: names of those of each unit."""
    write_sealed(out / PLAN, {**asdict(plan), "units": shards})


def read_plan(out: Path) -> Plan:
    """Raises `KitsamError` naming the file when it is damaged or of an older format."""
    return read_sealed(out / PLAN, Plan)
