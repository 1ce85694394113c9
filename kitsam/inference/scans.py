"""The scans of `kitsam predict`, by name, and boxes in the voxel indices of their files.

Imports nothing that takes time: a wrong path is refused at once.
"""

import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from kitsam.ct.labels import CLASS_NAMES, KIDNEY
from kitsam.ct.scan_files import Scan, find_files
from kitsam.system.errors import OptionError

TAKEN = "predictions"  # predictions.json holds all of them
SIX_NUMBERS = "a box is six whole numbers i0, j0, k0, i1, j1, k1"

Box = list[int]  # i0 j0 k0 i1 j1 k1, voxel indices of the file, ends included


@dataclass(frozen=True)
class BoxPrompt:
    """A box that says more than where it lies, for a checkpoint's own decoder."""

    box: Box
    label: int = KIDNEY  # of what is found in it
    propagate: bool = False  # followed beyond its first and last slice


DrawnBox = Box | BoxPrompt  # an entry of the file of boxes


def find_scans(paths: list[Path]) -> list[Scan]:
    """The scans that the paths mean, each with a name of its own.

    Raises `OptionError` for a path that means no scan, or two scans of one name.
    """
    scans: dict[str, Scan] = {}
    for scan in (scan for path in paths for scan in find_files(path)):
        # Where case, or the way an umlaut is written, does not count, such names are one file's.
        key = unicodedata.normalize("NFC", scan.name).casefold()
        if key in scans:
            raise OptionError(
                f"CT: two scans are named {scan.name}, and would be written to one file: {scans[key].path} and "
                f"{scan.path}"
            )
        if key == TAKEN:
            raise OptionError(f"CT: {scan.path}: no scan may be named {TAKEN}, as the file of all predictions is")
        scans[key] = scan
    return list(scans.values())


def read_boxes(path: Path, scans: list[Scan]) -> dict[str, list[DrawnBox]]:
    """Boxes by scan name. Raises `OptionError` naming what is wrong with the file."""
    try:
        boxes = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"--boxes: {path}: cannot be read as JSON: {error}") from error
    if not isinstance(boxes, dict):
        raise OptionError(f'--boxes: {path}: expected {{"NAME": [[i0, j0, k0, i1, j1, k1], ...]}}')
    for name, entries in boxes.items():
        if name not in {scan.name for scan in scans}:
            raise OptionError(
                f"--boxes: {path}: no scan is named {name} (given: {', '.join(scan.name for scan in scans)})"
            )
        boxes[name] = as_boxes(entries, f"--boxes: {path}: {name}")
    return boxes


def as_boxes(entries: object, source: str) -> list[DrawnBox]:
    """Entries as a file of boxes has them. Raises `OptionError` naming `source` and what is wrong."""
    if not isinstance(entries, list):
        raise OptionError(f"{source}: {SIX_NUMBERS}")
    return [_drawn_box(entry, source) for entry in entries]


def _drawn_box(entry: object, source: str) -> DrawnBox:
    if not isinstance(entry, dict):
        if not _is_box(entry):
            raise OptionError(f"{source}: {SIX_NUMBERS}")
        return entry
    unknown = entry.keys() - {"box", "label", "propagate"}
    if unknown:
        raise OptionError(f"{source}: {sorted(unknown)[0]} is none of box, label, propagate")
    prompt = BoxPrompt(**{"box": None, **entry})
    if not _is_box(prompt.box):
        raise OptionError(f"{source}: {SIX_NUMBERS}")
    if type(prompt.label) is not int or not 0 < prompt.label < len(CLASS_NAMES):
        classes = ", ".join(f"{number} ({name})" for number, name in enumerate(CLASS_NAMES) if number)
        raise OptionError(f"{source}: label {prompt.label} is none of {classes}")
    if type(prompt.propagate) is not bool:
        raise OptionError(f"{source}: propagate must be true or false, not {prompt.propagate}")
    return prompt


def _is_box(box: object) -> bool:
    return isinstance(box, list) and len(box) == 6 and all(type(index) is int for index in box)
