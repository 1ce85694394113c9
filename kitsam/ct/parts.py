"""The connected parts of a mask in 3-D, found a few slices at a time and joined where those meet.

No volume of part numbers (four bytes a voxel) is ever held.
"""

from itertools import product
from typing import Literal

import cc3d
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kitsam.ct.boxes import Box

FACES, CORNERS = 6, 26  # neighbors of a voxel: those that share a face, or a corner at least
Neighbors = Literal[6, 26]
# Where they lie on the slice before, which has a margin of one pixel here.
BEFORE = {FACES: [(1, 1)], CORNERS: list(product((0, 1, 2), repeat=2))}


def number_parts(mask: np.ndarray, neighbors: Neighbors) -> tuple[np.ndarray, int]:
    """(T, h, w) bool -> (T, h, w) uint32 numbers of its parts from 1 on, in order of first voxel, and their count."""
    # As bytes: for bool cc3d 4.1.1 reserves too few numbers where a mask is thin, and fails on 1 0 1 0 1.
    return cc3d.connected_components(mask.view(np.uint8), connectivity=neighbors, return_N=True, out_dtype=np.uint32)


class Parts:
    """The parts of a mask that comes box by box, in order of slice."""

    def __init__(self, neighbors: Neighbors, plane: tuple[int, int]) -> None:
        """`plane`: rows, columns of the whole volume."""
        self.neighbors = neighbors
        self.count = 0  # parts of the boxes so far
        self._links: list[np.ndarray] = []  # (N,) int64, pairs of them that are one part: one in the upper 32 bits
        self._end = -1  # the slice after the last one seen
        self._last = np.zeros(plane, np.uint32)  # parts on that last one, counted over all boxes from 1 on

    def number(self, mask: np.ndarray, box: Box) -> tuple[np.ndarray, int]:
        """`mask`: (T, h, w) bool, of that box. Returns as `number_parts`, whose count starts anew in each box."""
        numbers, count = number_parts(mask, self.neighbors)
        slices, rows, columns = box
        if slices.start == self._end:
            self._link(self._in_all(numbers[0]), rows, columns)
        self._last[:] = 0
        self._last[rows, columns] = self._in_all(numbers[-1])
        self._end = slices.stop
        self.count += count
        return numbers, count

    def _in_all(self, numbers: np.ndarray) -> np.ndarray:
        return np.where(numbers, numbers + np.uint32(self.count), 0)

    def _link(self, numbers: np.ndarray, rows: slice, columns: slice) -> None:
        """Join what touches the slice before."""
        before = np.pad(self._last, 1)
        for down, right in BEFORE[self.neighbors]:
            above = before[rows.start + down : rows.stop + down, columns.start + right : columns.stop + right]
            both = (above > 0) & (numbers > 0)
            self._links.append(np.unique(above[both].astype(np.int64) << 32 | numbers[both]))

    def join(self) -> tuple[np.ndarray, int]:
        """(N,) which part of the volume each of the boxes' parts belongs to, from 0 on, and how many those are."""
        links = np.concatenate([np.zeros(0, np.int64), *self._links])
        pairs = (links >> 32) - 1, (links & 0xFFFFFFFF) - 1
        graph = coo_array((np.ones(len(links), bool), pairs), shape=(self.count, self.count))
        count, part = connected_components(graph, directed=False)
        return part, count
