"""One slice while it is painted: ellipsoids in mm, cut by the slice's plane and put on its grid of pixels.

An edge covers a pixel by its share, so that outlines stay smooth at any resolution. Cost: an organ touches only the
window of pixels around it.
"""

import math

import numpy as np

from kitsam.phantom.anatomy import Ellipsoid, Patient

AIR, LUNG, FAT, FLUID, MUSCLE = -1000.0, -850.0, -102.0, 8.0, 58.0  # HU
Window = tuple[slice, slice]  # rows, columns
WHOLE: Window = (slice(None), slice(None))


class Canvas:
    """One slice of `patient` at `z` mm, painted one organ over the other.

    Rows (H,) lie at `y` mm, columns (W,) at `x` mm, `pixel` mm apart. A window is the rows and columns around an organ;
    `distance` is the distance of its pixels (h, w) from the organ's outline in mm, negative inside.
    """

    def __init__(self, patient: Patient, z: float, y: np.ndarray, x: np.ndarray, pixel: float) -> None:
        self.z, self.y, self.x, self.pixel = z, y, x, pixel
        self.hu = np.full((len(y), len(x)), AIR, np.float32)  # (H, W)
        self.label = np.zeros((len(y), len(x)), np.uint8)  # (H, W)
        self.coarse = patient.coarse.at(z, y, x)
        self.fine = patient.fine.at(z, y, x)

    def window(self, y: float, x: float, reach: float) -> Window:
        """Rows and columns up to `reach` mm from (y, x)."""
        rows = np.searchsorted(self.y, (y - reach, y + reach))
        columns = np.searchsorted(self.x, (x - reach, x + reach))
        return slice(*rows.tolist()), slice(*columns.tolist())

    def axes(self, window: Window, y: float, x: float) -> tuple[np.ndarray, np.ndarray]:
        """Distances of the window's pixels from (y, x) in mm: down (h, 1) and to the right (1, w)."""
        return self.y[window[0], None] - y, self.x[None, window[1]] - x

    def ellipse(self, shape: Ellipsoid) -> tuple[Window, np.ndarray] | None:
        """Window and distance of an ellipsoid; None where the slice misses it."""
        section = 1 - ((self.z - shape.z) / shape.rz) ** 2
        if section <= 0:
            return None
        size = math.sqrt(section)
        window = self.window(shape.y, shape.x, max(shape.ry, shape.rx) * size + 4 + self.pixel)
        dy, dx = self.axes(window, shape.y, shape.x)
        cos, sin = math.cos(shape.turn), math.sin(shape.turn)
        along, across = (cos * dx + sin * dy) / shape.rx, (cos * dy - sin * dx) / shape.ry
        return window, (np.sqrt(along**2 + across**2) - size) * min(shape.ry, shape.rx)

    def paint(self, window: Window, distance: np.ndarray, hu: np.ndarray | float) -> None:
        """Cover the inside with `hu`, one number or (h, w); a pixel on the outline gets its share of both sides."""
        share = np.clip(0.5 - distance / self.pixel, 0, 1)
        self.hu[window] += share * (hu - self.hu[window])
