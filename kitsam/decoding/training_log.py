"""The log of a training run, `metrics.jsonl`, as columns to plot."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kitsam.decoding.runs import METRICS
from kitsam.system.errors import KitsamError


@dataclass(frozen=True)
class TrainingLog:
    steps: np.ndarray  # (N,)
    loss: np.ndarray  # (N,)
    validation_steps: np.ndarray  # (M,)
    validation_dice: np.ndarray  # (M,)
    drawn: Counter[str]  # slices that were trained on, per stratum

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and Dice of the best validation."""
        if not len(self.validation_dice):
            return None
        index = int(self.validation_dice.argmax())
        return int(self.validation_steps[index]), float(self.validation_dice[index])


def read_log(run: Path) -> TrainingLog:
    """Raises `KitsamError` naming the file when it cannot be read or holds no step."""
    path = run / METRICS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KitsamError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    entries = [entry for entry in map(_parsed, lines) if entry is not None]
    if not entries:
        raise KitsamError(f"{path}: holds no step")
    drawn: Counter[str] = Counter()
    for entry in entries:
        drawn.update(entry.get("drawn") or {})
    return TrainingLog(*_column(entries, "loss"), *_column(entries, "val_dice"), drawn)


def _parsed(line: str) -> dict[str, Any] | None:
    """None for a line that a stopped run left unfinished."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) and "step" in entry else None


def _column(entries: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the lines that have this value."""
    pairs = [(entry["step"], entry[name]) for entry in entries if entry.get(name) is not None]
    values = np.array(pairs, float).reshape(-1, 2)
    return values[:, 0], values[:, 1]
