"""What `kitsam predict` has written for a scan, and what is still to be done.

NAME.json beside a label map says which scan, model and boxes it was made from, by their content, and the volumes. It
is written twice: when the label map is about to be, without the volumes, so that a start that was broken off is known
as one; and when all is there. What it vouches for is kept; a file that it does not vouch for is nobody's to replace.
"""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kitsam.ct.scan_files import SEGMENTATION_ENDING, Scan
from kitsam.inference.config import PredictConfig, names_checkpoint
from kitsam.inference.measures import Finding
from kitsam.inference.scans import DrawnBox
from kitsam.sam.checkpoints import checkpoint_path
from kitsam.system.console import say
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import sha256_of
from kitsam.system.seals import read_sealed


class Outputs(NamedTuple):
    """The files of one scan."""

    label_map: Path
    picture: Path
    record: Path
    probabilities: Path | None = None  # where they are asked for
    dicom_seg: Path | None = None

    @property
    def paths(self) -> list[Path]:
        return [path for path in self if path is not None]


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
    labels: dict[str, int] = field(default_factory=dict)  # what the numbers of the label map mean
    kidneys: list[Finding] = field(default_factory=list)
    lesions: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # what is not plausible about the answer
    about_model: str = ""  # what it learned from and how well it does; older records say nothing

    def as_json(self) -> dict[str, Any]:
        content = asdict(self)
        if not self.flips:
            del content["flips"]  # so that a record without flips stays what it was before there were any
        return content


@dataclass(frozen=True)
class Task:
    """A scan to label."""

    scan: Scan
    boxes: list[DrawnBox] | None
    outputs: Outputs


def outputs_of(config: PredictConfig, scan: Scan) -> Outputs:
    path = config.out / scan.name
    return Outputs(
        *(path.with_name(f"{scan.name}{ending}") for ending in (".nii.gz", ".png", ".json")),
        path.with_name(f"{scan.name}_probabilities.npz") if config.probabilities else None,
        path.with_name(f"{scan.name}{SEGMENTATION_ENDING}") if config.dicom_seg else None,
    )


def model_file(model: Path) -> Path:
    """The bundle, or the cached checkpoint of that name. Raises as `checkpoint_path` does."""
    return checkpoint_path(str(model)) if names_checkpoint(model) else model


def tasks_of(config: PredictConfig, scans: list[Scan], boxes: dict[str, list[DrawnBox]]) -> list[Task]:
    """The scans without a finished prediction. Reads those that have files in `config.out`, and then the model.

    Raises `OptionError` naming a file there that was not written for this scan, by this model, with these boxes.
    """
    tasks = [Task(scan, boxes.get(scan.name), outputs_of(config, scan)) for scan in scans]
    if config.overwrite:
        return tasks
    begun = [task for task in tasks if any(map(os.path.lexists, task.outputs.paths))]
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
        path = next(path for path in task.outputs.paths if os.path.lexists(path))
        raise _refusal(path, task, "has no record of `kitsam predict` beside it") from None
    causes = {
        "of another model": record.model_sha256 == model,
        "of other boxes": record.boxes == task.boxes,
        f"made with{'' if record.flips else 'out'} --flips": record.flips == flips,
        "of another scan": record.scan_sha256 == _digest(task.scan),
    }
    others = [cause for cause, same in causes.items() if not same]
    if others and os.path.lexists(task.outputs.label_map):
        raise _refusal(task.outputs.label_map, task, f"is {' and '.join(others)}")
    return not others and record.volumes_ml is not None and all(path.is_file() for path in task.outputs.paths)


def _digest(scan: Scan) -> str:
    try:
        return scan.sha256()
    except OSError:  # to be told when the scan is read
        return ""


def _refusal(path: Path, task: Task, what: str) -> OptionError:
    return OptionError(f"--out: {path} {what}: kept; {task.scan.path} needs another folder, or --overwrite")
