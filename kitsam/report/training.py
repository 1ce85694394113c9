"""How the decoders were trained: their curves, and the slices that they were to see and saw."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from kitsam.ct.labels import TARGETS
from kitsam.decoding.training_log import TrainingLog, read_log
from kitsam.evaluation.results import Metrics
from kitsam.report.runs import runs_by_name
from kitsam.report.training_plot import training_curve
from kitsam.shards import manifest
from kitsam.system.errors import KitsamError
from kitsam.system.records import read_record


class Shares(NamedTuple):
    """Of one decoder's slices, by stratum."""

    planned: dict[str, float] | None  # None: the run does not tell
    drawn: dict[str, float]


class _ShardSet(TypedDict):
    """What is read of a shard set's manifest."""

    strata: dict[str, int]  # training slices


def how_trained(metrics: Metrics) -> dict[str, Any]:
    runs, shards = runs_by_name(metrics.settings), metrics.settings.get("shards")
    logs = {name: attempt(read_log, run) for name, run in runs.items()}
    known = {name: log for name, log in logs.items() if isinstance(log, TrainingLog)}
    absent = [target for target in TARGETS if target not in (metrics.settings.get("runs") or {})]
    shard_set = attempt(read_record, Path(shards, manifest.NAME), _ShardSet) if shards else None
    strata = shard_set["strata"] if isinstance(shard_set, dict) else {}
    shares = {name: _shares(log, strata) for name, log in known.items() if log.strata.total()}
    return {
        "runs": runs,
        "names": [*runs, *absent],
        "logs": logs,
        "curves": {name: training_curve(log) for name, log in known.items()},
        "shard_set": shard_set,
        "shares": shares if strata else {},
    }


def _shares(log: TrainingLog, strata: dict[str, int]) -> Shares:
    return Shares(log.planned_shares(strata), {stratum: log.share(stratum) for stratum in strata})


def attempt(read: Callable[..., Any], *arguments: Any) -> Any:
    """What is read, or a text that says why it cannot be."""
    try:
        return read(*arguments)
    except KitsamError as error:
        return str(error)
