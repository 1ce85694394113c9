"""One NIfTI file, a CT or the labels drawn on it, read into one canonical frame.

KiTS stores slices first, in orientation IPL: index 0 runs to the feet, 1 to the back, 2 to the patient's left, so that
a slice looks as radiologists see it. A file in any other orientation is brought to that frame by permuting and flipping
axes only, and `Geometry` brings a label volume back, voxel for voxel. Nothing is resampled. A whole CT is held in
memory as float32.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    io_orientation,
    ornt_transform,
)
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from kitsam.ct.labels import CYST
from kitsam.system.errors import CaseError
from kitsam.system.files import complete_or_absent

CANONICAL = "IPL"
LABEL_BLOCK = 1 << 20  # bytes of a label file that are read and checked at once


@dataclass(frozen=True)
class Geometry:
    """Where a file's voxels are in space, and how to get from the canonical frame back to the file's own."""

    affine: np.ndarray  # (4, 4) float64, voxel indices of the file -> mm
    header: nib.Nifti1Header
    to_file: np.ndarray  # (3, 2) nibabel orientation that turns a canonical array into the file's

    def in_file_order(self, volume: np.ndarray) -> np.ndarray:
        """Canonical (S, H, W) array -> the file's axis order and directions."""
        return apply_orientation(volume, self.to_file)


def canonical_affine(spacing: tuple[float, float, float]) -> np.ndarray:
    """(4, 4) float64: voxel indices of a canonical volume -> mm; `spacing`: mm between slices, rows, columns."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *(-np.array(spacing)), 1
    return affine


@dataclass(frozen=True)
class Volume:
    """One file of a case, in the canonical frame."""

    voxels: np.ndarray  # (S, H, W)
    spacing: tuple[float, float, float]  # mm between slices, rows, columns
    geometry: Geometry


def check_same_shape(path: Path, volume: Volume, reference: Volume) -> None:
    """Raises `CaseError` naming `path` when the volume's shape is not that of the scan, `reference`."""
    if volume.voxels.shape != reference.voxels.shape:
        raise CaseError(
            f"{path}: shape {volume.voxels.shape} differs from the scan's {reference.voxels.shape} "
            "(slices, rows, columns)"
        )


def read_image(path: Path) -> Volume:
    """A CT volume as float32 HU, with the file's slope and intercept applied."""
    volume = _read_canonical(path, _read_voxels)
    voxels = volume.voxels.astype(np.float32)
    if not np.isfinite(voxels).all():
        raise CaseError(f"{path}: holds NaN or infinite values")
    return Volume(voxels, volume.spacing, volume.geometry)


def read_label(path: Path) -> Volume:
    """A KiTS label volume as uint8: 0 background, 1 kidney, 2 tumor, 3 cyst. Takes little memory beyond the volume."""
    return _read_canonical(path, _read_labels)


def _read_canonical(path: Path, read: Callable[[nib.Nifti1Image, Path], np.ndarray]) -> Volume:
    if not path.is_file():
        raise CaseError(f"{path}: no such file")
    try:
        image, voxels = _read_whole(path, read)
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError, WrapStructError) as error:
        raise CaseError(
            f"{path}: cannot be read as NIfTI, perhaps truncated or damaged: {' '.join(str(error).split())}"
        ) from error
    orientation = io_orientation(image.affine) if np.isfinite(image.affine).all() else np.full((3, 2), np.nan)
    if np.isnan(orientation).any():
        raise CaseError(f"{path}: the affine does not say how the axes lie")
    canonical = axcodes2ornt(CANONICAL)
    to_canonical = ornt_transform(orientation, canonical)
    sizes = np.linalg.norm(image.affine[:3, :3], axis=0)
    spacing = np.empty(3)
    spacing[to_canonical[:, 0].astype(int)] = sizes
    geometry = Geometry(image.affine, image.header, ornt_transform(canonical, orientation))
    return Volume(apply_orientation(voxels, to_canonical), tuple(float(mm) for mm in spacing), geometry)


def _read_whole(path: Path, read: Callable[[nib.Nifti1Image, Path], np.ndarray]) -> tuple[nib.Nifti1Image, np.ndarray]:
    """The image, and its voxels in the file's order.

    The stream is read to its end, where gzip's checksum is: nibabel alone stops after the last voxel, and for most
    damaged bits returns wrong voxels without an error.
    """
    kind = type(nib.load(path))
    if not issubclass(kind, nib.Nifti1Image):
        raise CaseError(f"{path}: not NIfTI in one file (.nii.gz or .nii) but {kind.__name__}")
    with ImageOpener(path) as opener:
        image = kind.from_stream(opener.fobj)
        if image.get_data_dtype().kind not in "iuf":
            raise CaseError(f"{path}: expected a number per voxel, found {image.get_data_dtype()}")
        if len(image.shape) != 3:
            raise CaseError(f"{path}: expected a 3-D volume, found shape {image.shape}")
        if 0 in image.shape:
            raise CaseError(f"{path}: holds no voxels, shape {image.shape}")
        voxels = read(image, path)
        while opener.read(1 << 20):
            pass
    return image, voxels


def _read_voxels(image: nib.Nifti1Image, path: Path) -> np.ndarray:
    """In the file's order, with slope and intercept applied."""
    return np.asanyarray(image.dataobj)


def _read_labels(image: nib.Nifti1Image, path: Path) -> np.ndarray:
    """In the file's order, as uint8; some planes at a time, since a file may store its labels as float64."""
    labels = np.empty(image.shape, np.uint8, order="F")
    planes = max(LABEL_BLOCK // (image.get_data_dtype().itemsize * image.shape[0] * image.shape[1]), 1)
    for first in range(0, image.shape[2], planes):
        block = np.asanyarray(image.dataobj[..., first : first + planes])
        with np.errstate(invalid="ignore"):
            part = block.astype(np.uint8, copy=False)
        if part.max() > CYST or (part is not block and not np.array_equal(part, block)):
            odd = next(value for value in np.unique(block) if value not in (0, 1, 2, 3))
            raise CaseError(f"{path}: label {odd:g} is none of 0 (background), 1 (kidney), 2 (tumor), 3 (cyst)")
        labels[..., first : first + planes] = part
    return labels


def save_label(path: Path, label: np.ndarray, geometry: Geometry) -> None:
    """Write a canonical (S, H, W) label volume with the scan's own axis order, affine and units, as uint8."""
    header = geometry.header.copy()
    # The scan's header carries its dtype and its rescaling to HU; neither fits labels.
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"], header["cal_max"] = 0, 0
    voxels = np.ascontiguousarray(geometry.in_file_order(label.astype(np.uint8)))
    with complete_or_absent(path) as temporary:
        nib.save(nib.Nifti1Image(voxels, geometry.affine, header), temporary)
