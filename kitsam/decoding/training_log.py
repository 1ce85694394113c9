"""The log of a training run as columns to plot, and in what shares it was to draw its slices.

`metrics.jsonl` holds a line every few steps, with the loss, and one for each validation, with its Dice; the run's
`config.yaml` says by which Dice the best decoder is chosen, and the quotas. A run that was broken off may leave half a
line, which counts for nothing. All is read at once: a long run has some ten thousand lines.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from kitsam.ct.labels import Target
from kitsam.ct.strata import strata_for
from kitsam.decoding.runs import CONFIG, METRICS
from kitsam.shards.order import quota_weights
from kitsam.system.errors import KitsamError
from kitsam.system.files import read_yaml
from kitsam.system.records import as_record

VALIDATION_COLUMNS = {"dice": "val_dice", "dice_pooled": "val_dice_pooled"}


class Rate(NamedTuple):
    """A number that goes along with the steps; none where the log does not tell it."""

    label: str
    steps: np.ndarray  # (N,)
    values: np.ndarray  # (N,)


@dataclass(frozen=True)
class _Validation:
    select: Literal["dice", "dice_pooled"] = "dice"


@dataclass(frozen=True)
class _RunConfig:
    """What is read of a run's `config.yaml`; a run without one is told of by its log alone."""

    target: Target | None = None
    quotas: Literal["natural"] | dict[str, float] | None = None
    validation: _Validation = field(default_factory=_Validation)


@dataclass(frozen=True)
class TrainingLog:
    steps: np.ndarray  # (N,)
    loss: np.ndarray  # (N,)
    validation_steps: np.ndarray  # (M,)
    validation_dice: np.ndarray  # (M,) the one by which the best decoder is chosen
    strata: Counter[str]  # slices that the run trained on
    learning_rate: Rate
    slices_per_second: Rate
    config: _RunConfig

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and Dice of the best validation."""
        if not len(self.validation_dice):
            return None
        index = int(self.validation_dice.argmax())
        return int(self.validation_steps[index]), float(self.validation_dice[index])

    @property
    def is_pooled(self) -> bool:
        """Whether the validation Dice is that of all cases' voxels together."""
        return self.config.validation.select == "dice_pooled"

    def share(self, stratum: str) -> float:
        """The part of the slices that the run trained on; zero for a stratum that it never drew."""
        return self.strata[stratum] / self.strata.total()

    def planned_shares(self, available: Mapping[str, int]) -> dict[str, float] | None:
        """The part of the slices that each stratum was to have, from the quotas and the slices that there are.

        None where the run does not tell its quotas, or none of them can be met.
        """
        if self.config.quotas is None or self.config.target is None:
            return None
        usable = {stratum: available.get(stratum, 0) for stratum in strata_for(self.config.target)}
        try:
            weights = quota_weights(self.config.quotas, usable)
        except KitsamError:
            return None
        return {stratum: weight / sum(weights.values()) for stratum, weight in weights.items()}


def read_log(run: Path) -> TrainingLog:
    """Raises `KitsamError` naming the file when it cannot be read or holds no step."""
    path = run / METRICS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KitsamError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    entries = [entry for entry in map(_parse, lines) if entry]
    if not entries:
        raise KitsamError(f"{path}: holds no step")
    there = (run / CONFIG).is_file()
    config = as_record(read_yaml(run / CONFIG), _RunConfig, run / CONFIG) if there else _RunConfig()
    strata: Counter[str] = Counter()
    for entry in entries:
        strata.update(entry.get("drawn") or {})
    return TrainingLog(
        *_columns(entries, "loss"),
        *_columns(entries, VALIDATION_COLUMNS[config.validation.select]),
        strata,
        Rate("learning\nrate", *_columns(entries, "learning_rate")),
        Rate("slices/s", *_columns(entries, "slices_per_second")),
        config,
    )


def _parse(line: str) -> dict[str, Any] | None:
    """None for a line that holds no step, such as one that is cut short."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) and "step" in entry else None


def _columns(entries: Sequence[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the lines that have this value."""
    pairs = [(entry["step"], entry[name]) for entry in entries if entry.get(name) is not None]
    values = np.array(pairs, float).reshape(-1, 2)
    return values[:, 0], values[:, 1]
