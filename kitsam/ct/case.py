"""Cases on disk: a CT volume, and the labels drawn on it.

Two layouts are read: KiTS (`case_00000/imaging.nii.gz` and `segmentation.nii.gz`) and nnU-Net
(`imagesTr/NAME_0000.nii.gz` and `labelsTr/NAME.nii.gz`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from kitsam.ct.volume import Geometry, check_same_shape, read_image, read_label
from kitsam.system.errors import CaseError, OptionError

T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """One scan with its labels, in the canonical frame."""

    name: str
    image: np.ndarray  # (S, H, W) float32 HU
    label: np.ndarray | None  # (S, H, W) uint8, None where no segmentation exists
    spacing: tuple[float, float, float]  # mm between slices, rows, columns
    geometry: Geometry


@dataclass(frozen=True)
class CaseFiles:
    """Where a case is on disk."""

    name: str
    imaging: Path
    segmentation: Path


def find_cases(data: Path, option: str = "--data") -> dict[str, CaseFiles]:
    """Every case of a KiTS or nnU-Net folder by name, sorted. Files are not opened.

    Raises `OptionError` when the folder is missing or holds no case.
    """
    if not data.is_dir():
        raise OptionError(f"{option}: no such folder: {data}")
    cases = [_kits_files(folder) for folder in sorted(data.iterdir()) if _is_case_folder(folder)]
    for image in sorted(data.glob("images*/*_0000.nii.gz")):
        name = image.name.removesuffix("_0000.nii.gz")
        labels = image.parent.with_name(image.parent.name.replace("images", "labels"))
        cases.append(CaseFiles(name, image, labels / f"{name}.nii.gz"))
    if not cases:
        raise OptionError(
            f"{option}: no case in {data} (expected case_00000/imaging.nii.gz or imagesTr/NAME_0000.nii.gz)"
        )
    for files in cases:
        # WebDataset ends a sample's key at the first dot, so such names would merge samples.
        if "." in files.name:
            raise CaseError(f"{files.imaging}: a case name may not hold a dot")
    return {files.name: files for files in sorted(cases, key=lambda files: files.name)}


def _is_case_folder(folder: Path) -> bool:
    return (folder / "imaging.nii.gz").exists() or (folder / "segmentation.nii.gz").exists()


def _kits_files(folder: Path) -> CaseFiles:
    return CaseFiles(folder.name, folder / "imaging.nii.gz", folder / "segmentation.nii.gz")


def check_files(files: CaseFiles) -> None:
    """Raises `CaseError` naming the first file of a case that is missing."""
    for path in (files.imaging, files.segmentation):
        if not path.is_file():
            raise CaseError(f"{path}: no such file")


def try_case(read: Callable[[CaseFiles], T], files: CaseFiles) -> T | CaseError:
    """What `read` makes of a case, or the error with which it refuses it: one bad case ends no long job."""
    try:
        return read(files)
    except CaseError as error:
        return error


def read_case(files: CaseFiles, needs_label: bool = True) -> Case:
    """Read and check one case.

    Raises `CaseError` naming the file: missing, truncated, not 3-D, NaN, labels outside 0-3, or an image and a
    label of different shapes. Without `needs_label` the segmentation is not read.
    """
    image = read_image(files.imaging)
    label = None
    if needs_label:
        volume = read_label(files.segmentation)
        check_same_shape(files.segmentation, volume, image)
        label = volume.voxels
    return Case(files.name, image.voxels, label, image.spacing, image.geometry)
