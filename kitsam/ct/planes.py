"""The connected parts and the holes of each slice, for many slices in one call.

Slices are put below one another as one tall picture. Pixels that touch at a corner are connected, in a part as in the
background: a hole is background that pixels of a part surround, each touching the next with a side.
"""

import numpy as np

from kitsam.ct.parts import CORNERS, number_parts


def number_in_planes(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """(S, H, W) bool -> (S, H, W) numbers from 1 on, in order of slice and then of first pixel, and their count."""
    slices, height, width = mask.shape
    tall = np.zeros((slices, height + 1, width), bool)  # with an empty row below each slice
    tall[:, :height] = mask
    numbers, count = _number(tall)
    return numbers[:, :height], count


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """(S, H, W) bool, the holes in its slices filled; what is open to the edge of a slice is none."""
    background = np.pad(~mask, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    numbers, _ = _number(background)
    return numbers[:, 1:-1, 1:-1] != numbers[0, 0, 0]


def _number(mask: np.ndarray) -> tuple[np.ndarray, int]:
    numbers, count = number_parts(mask.reshape(1, -1, mask.shape[2]), CORNERS)
    return numbers.reshape(mask.shape), count
