"""What `kitsam predict` has written for a scan, and what is still to be done.

NAME.json beside a label map says which scan, model and boxes it was made from, by their content, and the volumes. It
is written twice: when the label map is about to be, without the volumes, so that a start that was broken off is known
as one; and when all is there. What it vouches for is kept; a file that it does not vouch for is nobody's to replace.
"""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from kitsam.inference.config import PredictConfig, names_checkpoint
from kitsam.inference.scans import DrawnBox, Scan
from kitsam.sam.checkpoints import checkpoint_path
from kitsam.system.console import say
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import sha256_of
from kitsam.system.seals import read_sealed, write_sealed


class Outputs(NamedTuple):
    """The files of one scan."""

    label_map: Path
    picture: Path
    record: Path


@dataclass(frozen=True)
class PredictionRecord:
    """The content of NAME.json."""

    kitsam: str  # version that wrote it
    scan: str  # the file's path, as it was
    scan_sha256: str
    model: str
    model_sha256: str
    boxes: list[DrawnBox] | None
    doubts: list[str] = field(default_factory=list)  # about the scan
    volumes_ml: dict[str, float] | None = None  # by class; None while the other files are written
    flips: bool = False


@dataclass(frozen=True)
class Task:
    """A scan to label."""

    scan: Scan
    boxes: list[DrawnBox] | None
    outputs: Outputs


def write_record(path: Path, record: PredictionRecord) -> None:
    content = asdict(record)
    if not record.flips:
        del content["flips"]  # so that a record without flips stays, byte for byte, what it was before there were any
    write_sealed(path, content)


def outputs_of(out: Path, scan: Scan) -> Outputs:
    return Outputs(*(out / f"{scan.name}{ending}" for ending in (".nii.gz", ".png", ".json")))


def model_file(model: Path) -> Path:
    """The bundle, or the cached checkpoint of that name. Raises as `checkpoint_path` does."""
    return checkpoint_path(str(model)) if names_checkpoint(model) else model


def tasks_of(config: PredictConfig, scans: list[Scan], boxes: dict[str, list[DrawnBox]]) -> list[Task]:
    """The scans without a finished prediction. Reads those that have files in `config.out`, and then the model.

    Raises `OptionError` naming a file there that was not written for this scan, by this model, with these boxes.
    """
    tasks = [Task(scan, boxes.get(scan.name), outputs_of(config.out, scan)) for scan in scans]
    if config.overwrite:
        return tasks
    begun = [task for task in tasks if any(map(os.path.lexists, task.outputs))]
    model = sha256_of(model_file(config.model)) if begun else ""
    finished = [task for task in begun if _is_finished(task, model, config.flips)]
    for task in finished:
        say(f"{task.scan.name}: labelled already: {task.outputs.label_map}")
    return [task for task in tasks if task not in finished]


def _is_finished(task: Task, model: str, flips: bool) -> bool:
    """Whether all is there. Raises `OptionError` where a file is there that this task may not replace."""
    try:
        record = read_sealed(task.outputs.record, PredictionRecord)
    except KitsamError:
        path = next(path for path in task.outputs if os.path.lexists(path))
        raise _refusal(path, task, "has no record of `kitsam predict` beside it") from None
    causes = {
        "of another model": record.model_sha256 == model,
        "of other boxes": record.boxes == task.boxes,
        f"made with{'' if record.flips else 'out'} --flips": record.flips == flips,
        "of another scan": record.scan_sha256 == _digest(task.scan.path),
    }
    others = [cause for cause, same in causes.items() if not same]
    if others and os.path.lexists(task.outputs.label_map):
        raise _refusal(task.outputs.label_map, task, f"is {' and '.join(others)}")
    return not others and record.volumes_ml is not None and all(path.is_file() for path in task.outputs)


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:  # to be told when the scan is read
        return ""


def _refusal(path: Path, task: Task, what: str) -> OptionError:
    return OptionError(f"--out: {path} {what}: kept; {task.scan.path} needs another folder, or --overwrite")
