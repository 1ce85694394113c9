"""One NIfTI file, a CT or the labels drawn on it, read into one canonical frame.

KiTS stores slices first, in orientation IPL: index 0 runs to the feet, 1 to the back, 2 to the patient's left, so that
a slice looks as radiologists see it. A file in any other orientation is brought to that frame by permuting and flipping
axes only, and `Geometry` brings a label volume back, voxel for voxel. Nothing is resampled. A whole CT is held in
memory as float32.

A file that says something else than numbers in mm is refused. What a person should know of a file that can be used all
the same is a doubt of its volume (`doubts.py`).
"""

import os
import stat
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from kitsam.ct.doubts import farthest_shift, geometry_doubts, intensity_doubts
from kitsam.ct.labels import CYST
from kitsam.system.errors import CaseError
from kitsam.system.files import complete_or_absent

CANONICAL = "IPL"
LABEL_BLOCK = 1 << 20  # bytes of a label file that are read and checked at once
XYZ_UNITS, OTHER_UNITS = 7, {1: "meters", 3: "micrometers"}  # bits of `xyzt_units`, and their values that are not mm
FLAT = 1e-3  # volume of a voxel, as a share of the product of its sides, below which its axes lie in a plane
UNREADABLE = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError, WrapStructError)

# How far a label map may lie from its scan, in the scan's voxels, at the corner where it lies farthest.
FARTHEST_SHIFT = 1.0  # with more it is a map of something else, or flipped
SMALL_SHIFT = 0.05  # with less no word is needed: programs round affines


@dataclass(frozen=True)
class Geometry:
    """Where a file's voxels are in space, and how to get from the canonical frame back to the file's own."""

    affine: np.ndarray  # (4, 4) float64, voxel indices of the file -> mm
    header: nib.Nifti1Header
    to_file: np.ndarray  # (3, 2) nibabel orientation that turns a canonical array into the file's
    shape: tuple[int, int, int]  # slices, rows, columns

    @property
    def canonical(self) -> np.ndarray:
        """(4, 4) canonical voxel indices -> mm: what two files have in common, however each keeps its axes."""
        return self.affine @ np.linalg.inv(inv_ornt_aff(self.to_file, self.shape))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm between slices, rows, columns, along the axes."""
        return tuple(float(mm) for mm in np.linalg.norm(self.canonical[:3, :3], axis=0))

    @property
    def voxel_ml(self) -> float:
        """Of one voxel; where axes are sheared it is less than the product of the spacing."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

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
    doubts: tuple[str, ...] = ()  # what a person should know of the file, which each of them names
    files: tuple[Path, ...] = ()  # of a DICOM series, slice by slice in the order of the geometry's last axis


def check_same_shape(path: Path, volume: Volume, reference: Volume) -> None:
    """Raises `CaseError` naming `path` when the volume's shape is not that of the scan, `reference`."""
    _check_shape(path, volume.voxels.shape, reference.voxels.shape)


def _check_shape(path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise CaseError(f"{path}: shape {shape} differs from the scan's {expected} (slices, rows, columns)")


def check_same_place(path: Path, label: Geometry, scan: Geometry) -> tuple[str, ...]:
    """Doubts about where a label map lies. Raises `CaseError` naming `path` when that is not where its scan lies."""
    _check_shape(path, label.shape, scan.shape)
    shift = farthest_shift(label.canonical, scan.canonical, scan.shape)
    if shift > FARTHEST_SHIFT:
        raise CaseError(
            f"{path}: does not lie where its scan lies: the affines are up to {shift:.3g} voxels apart "
            f"(orientation {_axes(label)}, the scan's {_axes(scan)})"
        )
    if shift > SMALL_SHIFT:
        return (f"{path}: the affine differs from the scan's, by up to {shift:.2g} voxels",)
    return ()


def _axes(geometry: Geometry) -> str:
    return "".join(nib.aff2axcodes(geometry.affine))


def read_image(path: Path) -> Volume:
    """A CT volume as float32 HU, with the file's slope and intercept applied."""
    geometry, voxels = _read_nifti(path, _read_voxels)
    return ct_volume(path, voxels, geometry)


def read_label(path: Path) -> Volume:
    """A KiTS label volume as uint8: 0 background, 1 kidney, 2 tumor, 3 cyst. Takes little memory beyond the volume."""
    return _read_canonical(path, _read_labels)


def read_geometry(path: Path) -> Geometry:
    """Where a scan's voxels are, from the file's header alone. Raises `CaseError` where that cannot be used."""
    check_there(path)
    try:
        return nifti_geometry(path, _nifti(path, nib.load(path)))
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def ct_volume(source: object, voxels: np.ndarray, geometry: Geometry) -> Volume:
    """A CT volume as float32 HU, from voxels in the order of their file; `source`: what errors and doubts name."""
    volume = _canonical_volume(source, voxels, geometry)
    hounsfield = volume.voxels.astype(np.float32)
    if not np.isfinite(hounsfield).all():
        raise CaseError(f"{source}: holds NaN or infinite values")
    doubts = *volume.doubts, *intensity_doubts(source, hounsfield)
    return Volume(hounsfield, volume.spacing, geometry, doubts)


def _read_canonical(path: Path, read: Callable[[ArrayProxy, Path], np.ndarray]) -> Volume:
    geometry, voxels = _read_nifti(path, read)
    return _canonical_volume(path, voxels, geometry)


def _canonical_volume(source: object, voxels: np.ndarray, geometry: Geometry) -> Volume:
    to_canonical = ornt_transform(io_orientation(geometry.affine), axcodes2ornt(CANONICAL))
    doubts = geometry_doubts(source, geometry.header, geometry.affine, voxels.shape)
    return Volume(apply_orientation(voxels, to_canonical), geometry.spacing, geometry, tuple(doubts))


def _read_nifti(path: Path, read: Callable[[ArrayProxy, Path], np.ndarray]) -> tuple[Geometry, np.ndarray]:
    """The geometry, and the voxels in the file's order."""
    check_there(path)
    try:
        return _read_whole(path, read)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def check_there(path: Path) -> None:
    """Raises `CaseError` saying why there is no such file."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return
        reason = "not a file"
    except FileNotFoundError:
        reason = f"a link to {os.readlink(path)}, which is not there" if os.path.islink(path) else "no such file"
    except OSError as error:
        reason = error.strerror or str(error)
    raise CaseError(f"{path}: {reason}")


def _unreadable(path: Path, error: Exception) -> CaseError:
    reason = " ".join(str(error).split())
    return CaseError(f"{path}: cannot be read as NIfTI, perhaps truncated or damaged: {reason}")


def _read_whole(path: Path, read: Callable[[ArrayProxy, Path], np.ndarray]) -> tuple[Geometry, np.ndarray]:
    """The geometry, and the voxels in the file's order.

    The stream is read to its end, where gzip's checksum is: nibabel alone stops after the last voxel, and for most
    damaged bits returns wrong voxels without an error.
    """
    image = _nifti(path, nib.load(path))
    if not isinstance(image, nib.Nifti1Image):  # .hdr and .img, of which a truncated one is told by nibabel
        return nifti_geometry(path, image), read(_in_three_axes(image), path)
    with ImageOpener(path) as opener:
        image = type(image).from_stream(opener.fobj)
        geometry = nifti_geometry(path, image)
        voxels = read(_in_three_axes(image), path)
        while opener.read(1 << 20):
            pass
    return geometry, voxels


def _in_three_axes(image: nib.Nifti1Pair) -> ArrayProxy:
    shape = image.shape[:3]
    return image.dataobj if image.shape == shape else image.dataobj.reshape(shape)


def _nifti(path: Path, image: object) -> nib.Nifti1Pair:
    if not isinstance(image, nib.Nifti1Pair):
        raise CaseError(f"{path}: not NIfTI (.nii.gz, .nii, or .hdr with .img) but {type(image).__name__}")
    return image


def nifti_geometry(source: object, image: nib.Nifti1Pair) -> Geometry:
    """Raises `CaseError` naming `source` where the image does not say where the voxels of a volume are."""
    if image.get_data_dtype().kind not in "iuf":
        raise CaseError(f"{source}: expected a number per voxel, found {image.get_data_dtype()}")
    # Some programs store a volume with a fourth axis of one.
    if len(image.shape) < 3 or any(size != 1 for size in image.shape[3:]):
        raise CaseError(f"{source}: expected a 3-D volume, found shape {image.shape}")
    if unit := OTHER_UNITS.get(int(image.header["xyzt_units"]) & XYZ_UNITS):
        raise CaseError(f"{source}: the header gives lengths in {unit}: store them in mm")
    return geometry_of(source, image.affine, image.shape[:3], image.header)


def geometry_of(
    source: object,
    affine: np.ndarray,  # (4, 4) voxel indices -> mm, to the patient's right, front and head
    shape: tuple[int, int, int],
    header: nib.Nifti1Header,
) -> Geometry:
    """`affine` and `shape` in the order of the file's axes. Raises `CaseError` naming `source`, as `nifti_geometry`."""
    if 0 in shape:
        raise CaseError(f"{source}: holds no voxels, shape {shape}")
    orientation = _orientation(affine)
    if np.isnan(orientation).any():
        raise CaseError(f"{source}: the affine does not say how the axes lie")
    to_file = ornt_transform(axcodes2ornt(CANONICAL), orientation)
    return Geometry(affine, header, to_file, tuple(shape[int(axis)] for axis in to_file[:, 0]))


def _orientation(affine: np.ndarray) -> np.ndarray:
    """(3, 2) of nibabel, NaN where the axes do not span a volume."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) <= FLAT * np.prod(sizes):
        return np.full((3, 2), np.nan)
    return io_orientation(affine)


def _read_voxels(voxels: ArrayProxy, path: Path) -> np.ndarray:
    """In the file's order, with slope and intercept applied."""
    return np.asanyarray(voxels)


def _read_labels(voxels: ArrayProxy, path: Path) -> np.ndarray:
    """In the file's order, as uint8; some planes at a time, since a file may store its labels as float64."""
    labels = np.empty(voxels.shape, np.uint8, order="F")
    planes = max(LABEL_BLOCK // (voxels.dtype.itemsize * voxels.shape[0] * voxels.shape[1]), 1)
    for first in range(0, voxels.shape[2], planes):
        block = np.asanyarray(voxels[..., first : first + planes])
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
