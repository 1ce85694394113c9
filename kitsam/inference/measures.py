"""What a label map holds, in a doctor's terms: kidneys and lesions with volume, largest diameter, side and slices.

A kidney is a 3-D part of all that is labeled, its masses included; a lesion is a 3-D part of tumor or of cyst (26
neighbors, as the evaluation counts them). Sides are the patient's. The largest diameter is that of PyRadiomics
(Maximum3DDiameter): between points of the surface, which lies half a voxel outside the outermost voxels' centers; the
two points that are farthest apart are corners of the convex hull. Cost: one pass over the box of what is labeled, and
a hull for each part.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from kitsam.ct.labels import CLASS_NAMES, CYST, KIDNEY, TUMOR
from kitsam.ct.parts import CORNERS, number_parts
from kitsam.ct.volume import Geometry

Side = Literal["left", "right", "unclear"]

TISSUE = -200.0  # HU: fat, organs and bone lie above, air and lung below
NEAR_MIDDLE = 10.0  # mm from the body's middle plane, within which a side is unclear
MOST_HULL_POINTS = 3000  # whose distances are computed pair by pair


@dataclass(frozen=True)
class Finding:
    """A kidney, a tumor or a cyst of a label map."""

    kind: str  # kidney, tumor or cyst
    number: int  # 1 is the largest of its kind
    volume_ml: float  # of a kidney: without its masses
    diameter_mm: float  # largest, in 3-D; of a kidney: with its masses
    side: Side  # of the patient
    first_slice: int  # voxel index of the file, along the axis that runs from head to feet or back
    last_slice: int


def volumes_of(label: np.ndarray, voxel_ml: float) -> dict[str, float]:
    """mL by class, of (S, H, W) uint8 labels."""
    # Slice by slice: numpy counts bytes as eight times as many.
    voxels = sum(np.bincount(plane.ravel(), minlength=len(CLASS_NAMES)) for plane in label)
    return dict(zip(CLASS_NAMES[1:], (voxels * voxel_ml)[1:].tolist()))


def findings_of(
    label: np.ndarray,  # (S, H, W) uint8
    geometry: Geometry,
    middle: float,  # column of the body's middle plane
) -> tuple[list[Finding], list[Finding]]:
    """Kidneys, then lesions, each kind from the largest on."""
    planes = np.flatnonzero(label.any(axis=(1, 2)))
    if not len(planes):
        return [], []
    filled = [planes, *(np.flatnonzero(label[planes[0] : planes[-1] + 1].any(axis=axes)) for axes in ((0, 2), (0, 1)))]
    corner = np.array([axis[0] for axis in filled])
    inside = np.ascontiguousarray(label[tuple(slice(axis[0], axis[-1] + 1) for axis in filled)])
    found = [
        _findings(name, inside, mask, corner, geometry, middle)
        for name, mask in (("kidney", inside > 0), ("tumor", inside == TUMOR), ("cyst", inside == CYST))
    ]
    return found[0], [*found[1], *found[2]]


def _findings(
    kind: str, label: np.ndarray, mask: np.ndarray, corner: np.ndarray, geometry: Geometry, middle: float
) -> list[Finding]:
    numbers, count = number_parts(mask, CORNERS)
    counted = label == KIDNEY if kind == "kidney" else mask
    voxels = np.bincount(numbers[counted], minlength=count + 1)[1:]
    whole = np.bincount(numbers[mask], minlength=count + 1)[1:]
    found = []
    for place, part in enumerate(np.argsort(-whole, kind="stable"), 1):
        points = np.argwhere(numbers == part + 1) + corner  # (N, 3) slice, row, column
        slices = sorted(_file_slice(z, geometry) for z in (points[:, 0].min(), points[:, 0].max()))
        found.append(
            Finding(
                kind,
                place,
                float(voxels[part] * geometry.voxel_ml),
                largest_diameter(points, geometry.canonical),
                _side(float(points[:, 2].mean()), middle, geometry.spacing[2]),
                *slices,
            )
        )
    return found


def middle_column(voxels: np.ndarray, label: np.ndarray) -> float:
    """Of the tissue on the labeled slices: as much lies left of it as right; (S, H, W) each."""
    slices = np.flatnonzero(label.any(axis=(1, 2)))
    tissue = sum((np.count_nonzero(voxels[z] > TISSUE, axis=0) for z in slices), np.zeros(label.shape[2], int))
    total = np.cumsum(tissue)
    return float(np.searchsorted(total, total[-1] / 2)) if total[-1] else (label.shape[2] - 1) / 2


def _side(column: float, middle: float, spacing: float) -> Side:
    away = (column - middle) * spacing
    if abs(away) < NEAR_MIDDLE:
        return "unclear"
    return "left" if away > 0 else "right"  # canonical columns run to the patient's left


def _file_slice(z: int, geometry: Geometry) -> int:
    _, direction = geometry.to_file[0]
    return int(z) if direction > 0 else int(geometry.shape[0] - 1 - z)


def largest_diameter(points: np.ndarray, affine: np.ndarray) -> float:
    """mm, of a set of voxels; `points`: (N, 3) indices, `affine`: (4, 4) of these."""
    surface = np.concatenate([_ends(points, axis) for axis in range(3)]) @ affine[:3, :3].T
    try:
        corners = surface[ConvexHull(surface).vertices]
    except QhullError:  # all in a plane, but for rounding
        corners = surface
    return float(pdist(corners[:: -(-len(corners) // MOST_HULL_POINTS)]).max())


def _ends(points: np.ndarray, axis: int) -> np.ndarray:
    """(M, 3): of each line of voxels along an axis both ends, half a voxel outside."""
    others = [other for other in range(3) if other != axis]
    order = np.lexsort((points[:, axis], points[:, others[0]], points[:, others[1]]))
    ordered = points[order].astype(float)
    changes = np.flatnonzero((np.diff(ordered[:, others], axis=0) != 0).any(axis=1))
    half = np.eye(3)[axis] / 2
    first, last = np.append(0, changes + 1), np.append(changes, len(points) - 1)
    return np.concatenate([ordered[first] - half, ordered[last] + half])
