"""Outlines of a label map's kidneys and lesions, at any depth between its slices.

A label map has whole voxels; an outline is where the signed distance, smoothed by a pixel, is 0, and between two
slices it runs as the distances of both do. So what is painted from it covers the voxels on its way by a share, in the
plane and along z, as in CT, and the labels stay those of the voxels' centers. Cost: some 60 ms a slice with labels.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from kitsam.ct.labels import BACKGROUND, CYST, TUMOR

CLOSING = 12.0  # mm; half the width of the mouth of a kidney's sinus, at most
MARGIN = CLOSING + 3.0  # mm around all labels
SMOOTHING = 0.8  # pixels, the height of the steps of a drawn outline


class Section(NamedTuple):
    """One plane's signed distances from outlines in mm, (h, w) float32, negative inside."""

    whole: np.ndarray  # kidneys with all masses, without the sinus
    hull: np.ndarray  # the same with the sinus; at most `CLOSING`
    tumor: np.ndarray
    cyst: np.ndarray


@dataclass(frozen=True)
class Frame:
    """Rows and columns with all labels of a volume and some room around them."""

    rows: slice
    columns: slice

    @property
    def window(self) -> tuple[slice, slice]:
        return self.rows, self.columns


def find_frame(label: np.ndarray, pixel: tuple[float, float]) -> Frame:
    """`label`: (S, H, W) with at least one voxel that is no background; `pixel`: mm a row and a column."""
    drawn = (label != BACKGROUND).any(axis=0)
    parts = []
    for axis, mm in enumerate(pixel):
        at = np.flatnonzero(drawn.any(axis=1 - axis))
        margin = int(MARGIN / mm) + 1
        parts.append(slice(max(int(at[0]) - margin, 0), min(int(at[-1]) + margin + 1, drawn.shape[axis])))
    return Frame(*parts)


def find_section(label: np.ndarray, pixel: tuple[float, float]) -> Section | None:
    """Of one slice of labels, (h, w); None where it has none."""
    drawn = label != BACKGROUND
    if not drawn.any():
        return None
    whole = _signed(drawn, pixel)
    return Section(
        _smooth(whole),
        _smooth(CLOSING + _signed(whole < CLOSING, pixel)),
        _smooth(_signed(label == TUMOR, pixel)),
        _smooth(_signed(label == CYST, pixel)),
    )


def _signed(mask: np.ndarray, pixel: tuple[float, float]) -> np.ndarray:
    """(h, w) mm from the mask's outline, which runs halfway between the centers of pixels in it and beside it."""
    if mask.all() or not mask.any():  # there is no outline to be far from
        return np.full(mask.shape, -MARGIN if mask.all() else MARGIN)
    outside, inside = distance_transform_edt(~mask, pixel), distance_transform_edt(mask, pixel)
    half = math.sqrt(pixel[0] * pixel[1]) / 2
    return np.where(mask, half - inside, outside - half)


def _smooth(distance: np.ndarray) -> np.ndarray:
    return gaussian_filter(np.clip(distance, -4 * MARGIN, MARGIN).astype(np.float32), SMOOTHING)


def between(section: Section | None, neighbor: Section | None, share: float, spacing: float) -> Section | None:
    """The section at `share` (0..1) of the way from a slice to its neighbor, `spacing` mm away.

    An organ that the neighbor lacks ends on the way there, rounded: its outline moves inward by a slice spacing.
    """
    if section is None and neighbor is None:
        return None
    if share == 0 or section is neighbor:
        return section
    nowhere = Section(*[np.float32(spacing)] * 4)
    pairs = zip(section or nowhere, neighbor or nowhere)
    return Section(*[one + np.float32(share) * (other - one) for one, other in pairs])
