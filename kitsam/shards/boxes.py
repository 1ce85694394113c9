"""Boxes around what a stored mask holds, kept in the index so that nobody need look for them again."""

from typing import NamedTuple

import numpy as np

from kitsam.ct.instances import find_instances
from kitsam.ct.labels import CYST, TUMOR

Box = tuple[int, int, int, int]  # x0 y0 x1 y1 in pixels of the mask


class MaskBoxes(NamedTuple):
    """Boxes on one mask, in order of position."""

    kidneys: tuple[Box, ...]  # around each kidney with its masses
    tumors: tuple[Box, ...]  # around each connected part
    cysts: tuple[Box, ...]


NO_BOXES = MaskBoxes((), (), ())


def mask_boxes(mask: np.ndarray, pixel: tuple[float, float], merge: float, smallest: float) -> MaskBoxes:
    """`mask`: (h, w) uint8 labels; `pixel`: mm a row and a column; `merge` and `smallest`: as in `kidney_boxes`."""
    if not mask.any():
        return NO_BOXES
    return MaskBoxes(
        kidney_boxes(mask, pixel, merge, smallest),
        _boxes(mask == TUMOR, pixel, 0.0, 0.0),
        _boxes(mask == CYST, pixel, 0.0, 0.0),
    )


def kidney_boxes(mask: np.ndarray, pixel: tuple[float, float], merge: float, smallest: float) -> tuple[Box, ...]:
    """Around each kidney of a mask.

    Parts of a kidney nearer than `merge` mm share a box; those below `smallest` mm2 get none, unless a slice has no
    larger one.
    """
    return _boxes(mask > 0, pixel, merge, smallest)


def _boxes(part: np.ndarray, pixel: tuple[float, float], merge: float, smallest: float) -> tuple[Box, ...]:
    instances = find_instances(part[None], pixel, merge, smallest)
    return tuple(tuple(map(int, box)) for box in instances.boxes)
