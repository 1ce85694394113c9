"""A scan as the page shows it, and where a voxel of the page is in the scan's file.

The page has its axes to the patient's right, front and head, whatever the file has, and an affine without rotation: a
slice on the screen is a slice that the model sees, also where a scan lies obliquely. That is the canonical frame
(`ct/volume.py`) with each axis reversed, in the order of bytes that NIfTI has; nothing is resampled. Intensities go as
whole HU, two bytes a voxel.
"""

from typing import NamedTuple

import nibabel as nib
import numpy as np

from kitsam.ct.volume import Geometry, Volume

OFFSET = 352  # bytes of a NIfTI file before the voxels


class PageAxis(NamedTuple):
    """Which axis of the file an axis of the page is."""

    file_axis: int
    mirrored: bool  # whether the file counts the other way


def page_axes(geometry: Geometry) -> list[PageAxis]:
    """Of the page's axes to the right, front and head."""
    return [PageAxis(int(axis), bool(direction > 0)) for axis, direction in geometry.to_file[::-1]]


def page_shape(geometry: Geometry) -> list[int]:
    """Voxels to the right, front and head."""
    return [int(size) for size in geometry.shape[::-1]]


def page_slices(slices: range, geometry: Geometry) -> range:
    """Canonical slices, without gaps -> those of the page."""
    return range(geometry.shape[0] - slices.stop, geometry.shape[0] - slices.start)


def page_bytes(canonical: np.ndarray) -> bytes:
    """(S, H, W) -> its voxels in the page's order."""
    return np.ascontiguousarray(canonical[::-1, ::-1, ::-1]).tobytes()


def scan_nifti(volume: Volume) -> bytes:
    """The scan as a NIfTI file of the page's axes."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(page_shape(volume.geometry))
    header["vox_offset"] = OFFSET
    header.set_slope_inter(1, 0)
    header.set_xyzt_units("mm")
    affine = np.diag([*volume.spacing[::-1], 1.0])
    header.set_sform(affine, code="scanner")
    header.set_qform(affine, code="scanner")
    limits = np.iinfo(np.int16)
    hounsfield = np.clip(np.rint(volume.voxels), limits.min, limits.max).astype(np.int16)
    return header.binaryblock + bytes(OFFSET - len(header.binaryblock)) + page_bytes(hounsfield)
