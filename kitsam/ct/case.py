"""Cases on disk: a CT volume, and the labels drawn on it.

Every command takes its cases from here: the same folder holds the same cases for all, and what is no case for one is
none for another (`layouts.py`). A case is used, or left out by name.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from kitsam.ct.body import BodyBox
from kitsam.ct.layouts import CaseFiles, kits_cases, nnunet_cases
from kitsam.ct.volume import (
    Geometry,
    Volume,
    check_same_place,
    check_there,
    read_geometry,
    read_image,
    read_label,
)
from kitsam.system.console import is_main_process, warn
from kitsam.system.errors import CaseError, OptionError

S, T = TypeVar("S"), TypeVar("T")
USABLE_NAME = re.compile(r"[^./\\\0]+")


@dataclass(frozen=True)
class Case:
    """One scan with its labels, in the canonical frame."""

    name: str
    image: np.ndarray  # (S, H, W) float32 HU
    label: np.ndarray | None  # (S, H, W) uint8, None where no segmentation exists
    spacing: tuple[float, float, float]  # mm between slices, rows, columns
    geometry: Geometry
    doubts: tuple[str, ...] = ()  # what a person should know of its files

    def within(self, body: BodyBox | None) -> "Case":
        """The case cut to the body; whole where that is None. Its geometry stays the scan's."""
        if body is None:
            return self
        return replace(self, image=body.cut(self.image), label=None if self.label is None else body.cut(self.label))


def find_cases(data: Path, option: str = "--data") -> dict[str, CaseFiles]:
    """Every case of a KiTS or nnU-Net folder by name, sorted; of nnU-Net's the training cases. No scan is opened.

    What might be taken for a case and is none is warned of, once. Raises `OptionError` when the folder is missing or
    holds no case, or two cases have one name.
    """
    if not data.is_dir():
        raise OptionError(f"{option}: no such folder: {data}")
    kits, nnunet = kits_cases(data), nnunet_cases(data, option)
    for note in (*kits.notes, *nnunet.notes):
        _warn_once(note)
    cases = _by_name([*kits.cases, *nnunet.cases], option)
    if not cases:
        raise OptionError(
            f"{option}: no case in {data} (expected case_00000/imaging.nii.gz or imagesTr/NAME_0000.nii.gz)"
        )
    return cases


def paths_of(cases: Mapping[str, CaseFiles]) -> list[Path]:
    """The files of all cases."""
    return [path for files in cases.values() for path in (files.imaging, files.segmentation)]


def find_test_cases(data: Path, option: str = "--data") -> dict[str, CaseFiles]:
    """The cases of nnU-Net's `imagesTs` and `labelsTs` by name, sorted; often there are none."""
    return _by_name(nnunet_cases(data, option, "Ts").cases, option)


def _by_name(cases: Sequence[CaseFiles], option: str) -> dict[str, CaseFiles]:
    by_key: dict[str, CaseFiles] = {}
    for files in cases:
        # Files named for cases must not replace each other where case, or the way an umlaut is written, does not count.
        key = unicodedata.normalize("NFC", files.name).casefold()
        if key in by_key:
            raise OptionError(f"{option}: two cases of one name: {by_key[key].imaging} and {files.imaging}")
        by_key[key] = files if USABLE_NAME.fullmatch(files.name) else _with_bad_name(files)
    return {files.name: files for files in sorted(by_key.values(), key=lambda files: files.name)}


def _with_bad_name(files: CaseFiles) -> CaseFiles:
    # WebDataset ends a sample's key at the first dot, so such names would merge samples.
    return replace(files, problem=f"{files.imaging}: the case name {files.name!r} may not hold a dot or a slash")


@cache
def _warn_once(note: str) -> None:
    if is_main_process():
        warn(note)


def check_files(files: CaseFiles, needs_label: bool = True) -> None:
    """Raises `CaseError` where a case cannot be used, whatever its files hold, or one of them is missing."""
    if files.problem:
        raise CaseError(files.problem)
    check_there(files.imaging)
    if needs_label:
        check_there(files.segmentation)


def try_case(read: Callable[[S], T], source: S) -> T | CaseError:
    """What `read` makes of a case or a file of it, or the error with which it refuses it: one bad case ends no long
    job.
    """
    try:
        return read(source)
    except CaseError as error:
        return error


def read_case(files: CaseFiles, needs_label: bool = True) -> Case:
    """Read and check one case.

    Raises `CaseError` naming the file: missing, truncated, not 3-D, NaN, labels outside 0-3, or labels that do not lie
    where the image lies. Without `needs_label` the segmentation is not read.
    """
    check_files(files, needs_label)
    image = read_image(files.imaging)
    label, doubts = None, image.doubts
    if needs_label:
        volume = read_label(files.segmentation)
        doubts += check_same_place(files.segmentation, volume.geometry, image.geometry)
        label = volume.voxels
    return Case(files.name, image.voxels, label, image.spacing, image.geometry, doubts)


def read_truth(files: CaseFiles) -> Volume:
    """The labels of a case, checked as `read_case` checks them; of the scan, where there is one, only the header."""
    if files.problem:
        raise CaseError(files.problem)
    label = read_label(files.segmentation)
    if not files.imaging.is_file():
        return label
    try:
        scan = read_geometry(files.imaging)
    except CaseError as error:
        return replace(label, doubts=(*label.doubts, f"{error}: not compared with its labels"))
    return replace(label, doubts=(*label.doubts, *check_same_place(files.segmentation, label.geometry, scan)))
