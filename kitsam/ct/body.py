"""Where the body lies on a scan's slices.

Scanners leave more or less air around a patient, and a table below. Cut to the body, slices of all patients look alike:
organs lie at the same place and have the same size, which is worth much where a decoder learns from few patients, and
the encoder's cells are spent on what can hold a kidney.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

SOFT_TISSUE = 0.0  # HU, water's: muscle and organs lie above it, fat, air and most of a table below
CELL = 4.0  # mm, of the coarse grid on which the body is looked for
NEIGHBORHOOD = 28.0  # mm, over which tissue is averaged
LEAST_TISSUE = 0.3  # of a neighborhood that lies in the body: skin and the table's edge are too thin for it


class BodyBox(NamedTuple):
    """Rows and columns of a slice, from (in) and to (out)."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.right)

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    def cut(self, volume: np.ndarray) -> np.ndarray:
        """(S, H, W) -> what lies in the box of each slice."""
        return np.ascontiguousarray(volume[:, self.rows, self.columns])

    def put_back(self, inside: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """A volume of the box -> (S, H, W) of that shape, 0 around it."""
        volume = np.zeros(shape, inside.dtype)
        volume[:, self.rows, self.columns] = inside
        return volume


def find_body(voxels: np.ndarray, pixel: tuple[float, float]) -> BodyBox:
    """The box of rows and columns that holds the body on all slices; all of a slice where there is none.

    `voxels`: (S, H, W) HU, which may have been clipped from below; `pixel`: mm a row and a column.
    """
    height, width = voxels.shape[1:]
    steps = tuple(max(1, round(CELL / mm)) for mm in pixel)
    tissue = voxels > max(SOFT_TISSUE, float(voxels.min()))
    outline = np.zeros(tuple(-(-length // step) for length, step in zip((height, width), steps)), bool)
    size = [max(1, round(NEIGHBORHOOD / (mm * step))) for mm, step in zip(pixel, steps)]
    for one in tissue:
        share = ndimage.uniform_filter(_coarse(one, steps), size, mode="constant")
        outline |= _largest_part(share > LEAST_TISSUE)
    if not outline.any():
        return BodyBox(0, 0, height, width)
    (top, bottom), (left, right) = (np.flatnonzero(outline.any(1 - axis))[[0, -1]] for axis in (0, 1))
    return BodyBox(
        int(top * steps[0]), int(left * steps[1]),
        min(height, int((bottom + 1) * steps[0])), min(width, int((right + 1) * steps[1])),
    )  # fmt: skip


def _coarse(tissue: np.ndarray, steps: tuple[int, int]) -> np.ndarray:
    """(H, W) bool -> the share of tissue in cells of `steps` rows and columns; what lies outside is none."""
    rows, columns = (-(-length // step) for length, step in zip(tissue.shape, steps))
    padded = np.zeros((rows * steps[0], columns * steps[1]), np.float32)
    padded[: tissue.shape[0], : tissue.shape[1]] = tissue
    return padded.reshape(rows, steps[0], columns, steps[1]).mean((1, 3))


def _largest_part(mask: np.ndarray) -> np.ndarray:
    parts, count = ndimage.label(mask)
    return parts == 1 + np.argmax(np.bincount(parts.ravel(), minlength=count + 1)[1:]) if count else mask
