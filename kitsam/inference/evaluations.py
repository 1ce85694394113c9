"""What `kitsam evaluate` measured of a bundle's decoders, for its card.

Figures of other decoders, or of another way from their answers to labels, are not this bundle's: they are refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kitsam.ct.labels import Target
from kitsam.ct.origin import MARKS
from kitsam.decoding.runs import TrainedDecoder
from kitsam.inference.card import Evaluation, Interval
from kitsam.inference.config import CascadeConfig
from kitsam.system.errors import OptionError
from kitsam.system.files import read_json, sha256_of
from kitsam.system.options import as_list
from kitsam.system.records import as_record

METRICS = "metrics.json"  # in the folder of an evaluation
OPTION = "--metrics"


@dataclass(frozen=True)
class _Metrics:
    """What is read of `metrics.json`."""

    kitsam: str
    summary: dict[str, float]
    settings: dict[str, Any]
    cases: list[Any]
    intervals_95: dict[str, Interval | None] = field(default_factory=dict)
    absent_groups: list[str] = field(default_factory=list)


def read_evaluations(
    folders: Sequence[Path], runs: Mapping[Target, Sequence[TrainedDecoder]], cascade: CascadeConfig
) -> list[Evaluation]:
    """Raises `OptionError` where a folder has no evaluation of these runs by this cascade."""
    own = {target: [sha256_of(run.path) for run in some] for target, some in runs.items()}
    return [_read(folder / METRICS, own, cascade) for folder in folders]


def _read(path: Path, own: dict[Target, list[str]], cascade: CascadeConfig) -> Evaluation:
    if not path.is_file():
        raise OptionError(f"{OPTION}: no such file: {path}: run `kitsam evaluate` first")
    metrics = as_record(read_json(path), _Metrics, path)
    settings = metrics.settings
    if settings.get("command") != "evaluate" or settings.get("zero_shot"):
        raise OptionError(f"{OPTION}: {path}: not an evaluation of runs (`kitsam evaluate --roi RUN ...`)")
    if "decoders" not in settings:
        raise OptionError(f"{OPTION}: {path}: does not say of which decoders: run the same `kitsam evaluate` again")
    decoders = {target: as_list(some) for target, some in settings["decoders"].items()}
    for target, some in decoders.items():
        if not {*some} <= {*own.get(target, [])}:
            raise OptionError(f"{OPTION}: {path}: of another {target} decoder than the bundle's")
    _check_cascade(path, settings["cascade"], asdict(cascade))
    return Evaluation(
        Path(settings["data"]).name,
        len(metrics.cases),
        sum(settings.get("origins", {}).get(origin, 0) for origin in MARKS),
        settings["fingerprint"],
        settings["fold"],
        {target: len(some) for target, some in decoders.items()},
        bool(settings.get("flips")),
        metrics.kitsam,
        metrics.summary,
        metrics.intervals_95,
        metrics.absent_groups,
    )


def _check_cascade(path: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    theirs = {"second_look": False, **theirs}  # of which earlier versions knew nothing
    for name, value in ours.items():
        if name != "batch_size" and theirs.get(name) != value:
            raise OptionError(
                f"{OPTION}: {path}: measured with cascade.{name} {theirs.get(name)}, the bundle has {value}"
            )
