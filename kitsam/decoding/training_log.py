"""The log of a training run as columns to plot.

`metrics.jsonl` holds a line every few steps, with the loss, and one for each validation, with its Dice. A run that was
broken off may leave half a line, which counts for nothing. All is read at once: a long run has some ten thousand lines.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kitsam.decoding.records import METRICS
from kitsam.system.errors import KitsamError


@dataclass(frozen=True)
class TrainingLog:
    steps: np.ndarray  # (N,)
    loss: np.ndarray  # (N,)
    validation_steps: np.ndarray  # (M,)
    validation_dice: np.ndarray  # (M,)
    strata: Counter[str]  # slices that the run trained on

    @property
    def last_step(self) -> int:
        return int(max([0, *self.steps, *self.validation_steps]))

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and Dice of the best validation."""
        if not len(self.validation_dice):
            return None
        index = int(self.validation_dice.argmax())
        return int(self.validation_steps[index]), float(self.validation_dice[index])

    def share(self, stratum: str) -> float:
        """The part of the slices that the run trained on; zero for a stratum that it never drew."""
        return self.strata[stratum] / self.strata.total()


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
    strata: Counter[str] = Counter()
    for entry in entries:
        strata.update(entry.get("drawn") or {})
    return TrainingLog(*_columns(entries, "loss"), *_columns(entries, "val_dice"), strata)


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
