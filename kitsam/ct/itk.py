"""Scans that SimpleITK reads: NRRD, MetaImage, the slices of DICOM, and its images in memory.

SimpleITK counts to the patient's left, back and head, nibabel to the right, front and head; the axes of a volume are
column, row, slice for both. It is an extra: whoever reads NIfTI only does without.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

from kitsam.ct.scan_files import INSTALL
from kitsam.ct.volume import Volume, check_there, ct_volume, geometry_of
from kitsam.system.errors import CaseError, OptionError

if TYPE_CHECKING:
    import SimpleITK

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
RIGHT_ANGLE = 1e-4  # cosine of two axes, from which only the sform can keep them


def simpleitk(source: object) -> ModuleType:
    """The module, or `OptionError` saying what to install to read `source`."""
    try:
        import SimpleITK
    except ImportError as error:
        raise OptionError(f"{source}: reading DICOM, NRRD and MetaImage needs: {INSTALL}") from error
    return SimpleITK


@contextmanager
def in_one_line(source: object) -> Iterator[None]:
    """SimpleITK's errors as a `CaseError` naming `source`."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].rpartition("): ")[2]
        raise CaseError(f"{source}: cannot be read, perhaps truncated or damaged: {reason}") from error


def read_itk(path: Path) -> Volume:
    """A CT volume from a .nrrd, .nhdr, .mha or .mhd file."""
    check_there(path)
    sitk = simpleitk(path)
    with in_one_line(path):
        image = sitk.ReadImage(str(path))
    return itk_volume(path, image)


def itk_volume(source: object, image: "SimpleITK.Image") -> Volume:
    """A CT volume from an image in memory. Raises `CaseError` naming `source`."""
    sitk = simpleitk(source)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise CaseError(f"{source}: expected a 3-D volume of one number a voxel, found size {image.GetSize()}")
    voxels = sitk.GetArrayFromImage(image).T
    rows = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    return volume_in_mm(source, voxels, ras_affine(rows, image.GetOrigin()))


def ras_affine(axes: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """(4, 4) of nibabel; `axes`: (3, 3), a column an axis in mm; `origin`: (3,); both to left, back and head."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, origin
    return TO_RAS @ affine


def volume_in_mm(source: object, voxels: np.ndarray, affine: np.ndarray) -> Volume:
    """A CT volume from an array in any order of axes and its affine, as nibabel has it."""
    affine = np.asarray(affine, float)
    header = nib.Nifti1Header()
    header.set_xyzt_units("mm")
    if affine.shape != (4, 4) or voxels.ndim != 3 or voxels.dtype.kind not in "iuf":
        raise CaseError(
            f"{source}: expected (I, J, K) numbers and a (4, 4) affine, found {voxels.shape} {voxels.dtype} and "
            f"{affine.shape}"
        )
    geometry = geometry_of(source, affine, voxels.shape, header)
    header.set_sform(affine, code="scanner")
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.abs(axes.T @ axes - np.eye(3)).max() < RIGHT_ANGLE:
        header.set_qform(affine, code="scanner")
    return ct_volume(source, voxels, geometry)
