"""What a person should know of a scan that can be used all the same: every command says it, once for a file.

- Axes that are not at right angles (a tilted gantry): the slices are treated as if they were.
- A header without an orientation, or with two that differ: left and right, head and feet are a guess.
- Hardly any air: intensities are probably not HU. A CT is a third air or more, at -1000 HU; scanners pad what lies
  outside their circle with values below, such as -2000, which say nothing. Where there is fat, at -100 HU, it is HU
  all the same, and the scan is cropped within the body, or clipped.

Cost: one pass over the voxels.
"""

from itertools import combinations, product

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

RIGHT_ANGLE = 1.0  # degrees by which two axes may miss it without a word
ALIKE = 0.5  # voxels by which two orientations of one header may differ without a word
PADDING, AIR = -1100.0, -200.0  # HU: what lies below the first is no tissue, what lies between them is air or lung
FAT = (-150.0, -30.0)  # HU
LEAST_AIR, LEAST_FAT = 0.01, 0.05  # of the voxels that are no padding


def farthest_shift(affine: np.ndarray, reference: np.ndarray, shape: tuple[int, ...]) -> float:
    """How far apart two affines, (4, 4), place a corner of a volume of that shape, in voxels of the second."""
    # Voxels have their size around their index, so that a single slice has corners too.
    corners = np.array([(*corner, 1.0) for corner in product(*((-0.5, size - 0.5) for size in shape))]).T
    return float(np.abs(np.linalg.solve(reference, affine @ corners) - corners).max())


def geometry_doubts(source: object, header: nib.Nifti1Header, affine: np.ndarray, shape: tuple[int, ...]) -> list[str]:
    """`affine`, (4, 4), and `shape` in the file's own order of axes."""
    doubts = []
    miss = _miss_of_right_angle(affine)
    if miss > RIGHT_ANGLE:
        doubts.append(
            f"{source}: the axes miss a right angle by {miss:.1f} degrees (a tilted gantry?): slices are taken as if "
            "they lay straight behind each other; volumes are right"
        )
    if not header["qform_code"] and not header["sform_code"]:
        doubts.append(
            f"{source}: the header gives no orientation (qform and sform have code 0): left and right, head and feet "
            "are a guess"
        )
    elif header["qform_code"] and header["sform_code"]:
        apart = _shift_of_qform(header, shape)
        if not apart <= ALIKE:
            doubts.append(
                f"{source}: qform and sform of the header are up to {apart:.3g} voxels apart: the orientation is the "
                "sform's"
            )
    return doubts


def _shift_of_qform(header: nib.Nifti1Header, shape: tuple[int, ...]) -> float:
    """In voxels, from the sform; infinite where the qform is damaged."""
    try:
        return farthest_shift(header.get_qform(), header.get_sform(), shape)
    except (ValueError, HeaderDataError):
        return float("inf")


def _miss_of_right_angle(affine: np.ndarray) -> float:
    """Degrees, of the two axes that miss it most."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.degrees(np.arcsin(min(max(abs(a @ b) for a, b in combinations(axes.T, 2)), 1.0))))


def intensity_doubts(source: object, voxels: np.ndarray) -> list[str]:
    """`voxels`: (S, H, W) HU, as the file says."""
    tissue = air = fat = 0
    for plane in voxels:
        tissue += np.count_nonzero(plane > PADDING)
        air += np.count_nonzero((plane > PADDING) & (plane < AIR))
        fat += np.count_nonzero((plane > FAT[0]) & (plane < FAT[1]))
    if air >= LEAST_AIR * tissue and tissue:
        return []
    cause = "no CT, but MR? Or stored without rescale slope and intercept to Hounsfield units, or clipped?"
    if fat and fat >= LEAST_FAT * tissue:
        cause = "cropped within the body, or clipped?"
    share = f"{air / max(tissue, 1):.1%} of the voxels between {PADDING:g} and {AIR:g} HU"
    return [f"{source}: hardly any air ({share}): {cause}"]
