"""Any scan into the canonical frame: a file, a DICOM series, an image of nibabel or SimpleITK, an array."""

from typing import TYPE_CHECKING, Union

import nibabel as nib
import numpy as np

from kitsam.ct.dicom_series import read_series
from kitsam.ct.itk import itk_volume, read_itk, volume_in_mm
from kitsam.ct.scan_files import Scan
from kitsam.ct.volume import Volume, ct_volume, nifti_geometry, read_geometry, read_image
from kitsam.system.errors import CaseError

if TYPE_CHECKING:
    import SimpleITK

Spacing = tuple[float, float, float]  # mm a voxel, along the axes of its array
# (I, J, K) HU, spacing, (4, 4) affine as nibabel has it: voxel indices -> mm to the right, front and head
ArrayScan = tuple[np.ndarray, Spacing | None, np.ndarray]
ScanInMemory = Union[nib.spatialimages.SpatialImage, "SimpleITK.Image", ArrayScan]

SAME_SPACING = 1e-3  # of a length, up to which spacing and affine agree


def read_scan(scan: Scan) -> Volume:
    """Raises `CaseError` naming the file that cannot be used."""
    if scan.series:
        return read_series(scan.series, scan.path)
    if scan.needs_itk:
        return read_itk(scan.path)
    return read_image(scan.path)


def count_slices(scan: Scan) -> int:
    """As its header says; 1 where that cannot be read, or only by reading all."""
    if scan.series:
        return len(scan.series)
    try:
        return 1 if scan.needs_itk else read_geometry(scan.path).shape[0]
    except CaseError:
        return 1


def scan_in_memory(scan: ScanInMemory, name: str) -> Volume:
    """Raises `CaseError` naming the scan by `name`, also for an object that is none."""
    if isinstance(scan, nib.Nifti1Pair):
        geometry = nifti_geometry(name, scan)
        return ct_volume(name, np.asanyarray(scan.dataobj).reshape(scan.shape[:3]), geometry)
    if isinstance(scan, nib.spatialimages.SpatialImage):
        return volume_in_mm(name, np.asanyarray(scan.dataobj), scan.affine)
    if isinstance(scan, tuple):
        return _from_array(scan, name)
    if type(scan).__module__.partition(".")[0] == "SimpleITK":
        return itk_volume(name, scan)
    raise CaseError(
        f"{name}: expected a path, an image of nibabel or SimpleITK, or (array, spacing, affine), found "
        f"{type(scan).__name__}"
    )


def _from_array(scan: ArrayScan, name: str) -> Volume:
    if len(scan) != 3 or scan[2] is None:
        raise CaseError(f"{name}: expected (array, spacing, affine); without an affine nobody knows how a patient lies")
    voxels, spacing, affine = scan
    volume = volume_in_mm(name, np.asanyarray(voxels), affine)
    lengths = np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0)
    if spacing is not None and not np.allclose(spacing, lengths, rtol=SAME_SPACING):
        raise CaseError(f"{name}: the spacing {tuple(spacing)} is not that of the affine, {tuple(lengths.tolist())}")
    return volume
