"""Which cases train and which validate: by case, seeded, saved beside the shards.

A split by slice would leak: neighboring slices of one patient are nearly the same picture. nnU-Net's
`splits_final.json` is read too (its first fold), so that results can be compared case by case.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import read_json, write_json


@dataclass(frozen=True)
class Split:
    """Names of the cases on each side."""

    train: tuple[str, ...]  # sorted
    val: tuple[str, ...]  # sorted
    seed: int | None  # None where a file without a seed gave the split


def make_split(names: Sequence[str], val_fraction: float, seed: int) -> Split:
    """Draw the validation cases; each side has at least one case, whatever the fraction.

    The order of `names` does not matter. Raises `OptionError` for fewer than two cases or a fraction not in (0, 1).
    """
    if not 0 < val_fraction < 1:
        raise OptionError(f"--val_fraction: {val_fraction} is not between 0 and 1")
    if len(names) < 2:
        raise OptionError(f"--data: {len(names)} case cannot be split into training and validation; two are the least")
    order = np.random.default_rng(seed).permutation(sorted(names)).tolist()
    count = min(max(1, round(val_fraction * len(order))), len(order) - 1)
    return Split(tuple(sorted(order[count:])), tuple(sorted(order[:count])), seed)


def write_split(path: Path, split: Split) -> None:
    write_json(path, {"seed": split.seed, "train": list(split.train), "val": list(split.val)})


def read_split(path: Path, names: Sequence[str]) -> Split:
    """Read `splits.json`, or the first fold of nnU-Net's `splits_final.json`.

    Cases of `names` that the file does not mention are on neither side. Raises `OptionError` when the file names a case
    that is not in `names`, names one twice, or leaves a side empty.
    """
    content = _read_splits(path)
    return _fold(path, content[0] if isinstance(content, list) and content else content, names)


def _read_splits(path: Path) -> Any:
    try:
        return read_json(path)
    except KitsamError as error:
        raise OptionError(f"--splits: {error}") from error


def _fold(path: Path, fold: Any, names: Sequence[str]) -> Split:
    train, val = _side(path, fold, "train"), _side(path, fold, "val")
    for side, members in (("train", train), ("val", val)):
        if not members:
            raise OptionError(f"--splits: {path}: no case in {side}")
    twice = [name for name, count in Counter([*train, *val]).items() if count > 1]
    if twice:
        where = "both in train and in val" if twice[0] in train and twice[0] in val else "named twice"
        raise OptionError(f"--splits: {path}: {twice[0]} is {where}{_and_more(twice)}")
    unknown = sorted({*train, *val} - {*names})
    if unknown:
        raise OptionError(f"--splits: {path}: {unknown[0]} is not in the data set{_and_more(unknown)}")
    seed = fold.get("seed")
    return Split(tuple(sorted(train)), tuple(sorted(val)), seed if type(seed) is int else None)


def make_folds(names: Sequence[str], folds: int, seed: int) -> tuple[tuple[str, ...], ...]:
    """Deal the cases into the validation sides of `folds` splits, as evenly as they go.

    The order of `names` does not matter. Raises `OptionError` for fewer cases than folds.
    """
    if len(names) < folds:
        raise OptionError(f"--folds: {len(names)} cases cannot be dealt into {folds} folds")
    order = np.random.default_rng(seed).permutation(sorted(names)).tolist()
    return tuple(tuple(sorted(order[first::folds])) for first in range(folds))


def read_folds(path: Path, names: Sequence[str], folds: int) -> tuple[tuple[str, ...], ...]:
    """The validation cases of all folds of nnU-Net's `splits_final.json`.

    Raises `OptionError` when the file is not such a list of `folds` folds, in which each of its cases validates once
    and trains in all others.
    """
    content = _read_splits(path)
    if not isinstance(content, list) or len(content) != folds:
        raise OptionError(f"--folds: {path} does not hold {folds} folds")
    splits = [_fold(path, fold, names) for fold in content]
    everyone = sorted(name for split in splits for name in split.val)
    for number, split in enumerate(splits):
        if sorted([*split.train, *split.val]) != everyone:
            raise OptionError(f"--splits: {path}: fold {number} does not hold the cases that validate in all folds")
    return tuple(split.val for split in splits)


def _side(path: Path, fold: Any, side: str) -> list[str]:
    members = fold.get(side) if isinstance(fold, dict) else None
    if not isinstance(members, list) or not all(isinstance(name, str) for name in members):
        raise OptionError(f'--splits: {path}: expected {{"train": [names], "val": [names]}}, or a list of such folds')
    return members


def _and_more(cases: Sequence[str]) -> str:
    return f" (and {len(cases) - 1} more cases)" if len(cases) > 1 else ""
