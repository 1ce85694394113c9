"""The area of surface in a cell between eight voxels, for each of the 256 ways in which they can be in or out.

The surface of a mask runs through the cells between voxel centers, as in marching cubes: it cuts a cell's edge in the
middle where one end is inside and the other outside. What it cuts off is a few connected groups of corners, of six
shapes up to rotation, and each shape has its polygon. Every polygon can be laid out in facets whose normal has
components of equal size along one, two or three axes, so seven facet areas are all that the voxel spacing enters
into. A cell and its complement have the same surface: the side with fewer corners is the one that is cut off.

The areas are those of the lookup table of the PyPI package `surface-distance`, which defines the official metric.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import numpy as np

Corner = tuple[int, int, int]
Facet = tuple[int, int, int]  # the axes along which a facet's normal has a component

# The first corner is the highest bit of a cell's code.
CORNERS: tuple[Corner, ...] = tuple(product((0, 1), repeat=3))
DIAGONAL: Facet = (1, 1, 1)


@lru_cache
def surface_areas(spacing: tuple[float, float, float]) -> np.ndarray:
    """(256,) float64: mm2 of surface by a cell's code, whose bit 7 is corner (0, 0, 0) and bit 0 corner (1, 1, 1)."""
    areas = np.array([sum(eighths * _area(facet, spacing) for facet, eighths in _facets(code)) for code in range(256)])
    areas.flags.writeable = False
    return areas


def _area(facet: Facet, spacing: tuple[float, float, float]) -> float:
    """An eighth of the cell's faces that `facet` is made of, mm2."""
    along = np.array(facet) / 8
    return float(np.linalg.norm(along * np.prod(spacing) / np.array(spacing)))


def _facets(code: int) -> Iterator[tuple[Facet, int]]:
    """The facets of a cell's surface with their size, in eighths of the cell's faces."""
    inside = {corner for bit, corner in enumerate(reversed(CORNERS)) if code >> bit & 1}
    outside = set(CORNERS) - inside
    for group in _groups(inside if len(inside) <= len(outside) else outside):
        yield from _facets_around(group)


def _groups(corners: set[Corner]) -> Iterator[list[Corner]]:
    """Corners that edges of the cell join."""
    left = sorted(corners)
    while left:
        group = [left.pop()]
        for corner in group:
            joined = [other for other in left if _are_neighbors(corner, other)]
            group += joined
            left = [other for other in left if other not in joined]
        yield group


def _are_neighbors(a: Corner, b: Corner) -> bool:
    return sum(x != y for x, y in zip(a, b)) == 1


def _facets_around(group: list[Corner]) -> list[tuple[Facet, int]]:
    """The polygon that cuts off one group of at most four joined corners."""
    shared = [axis for axis in range(3) if len({corner[axis] for corner in group}) == 1]
    if len(group) == 1:  # a triangle between the middles of three edges
        return [(DIAGONAL, 1)]
    if len(group) == 2:  # a rectangle: an edge's length by a slanted width
        return [(_facet(*shared), 4)]
    if len(group) == 3:  # a pentagon: half a face, and a slope to its free corner
        return [(_facet(*shared), 4), (DIAGONAL, 3)]
    if shared:  # a square parallel to the face that the four corners fill
        return [(_facet(*shared), 8)]
    degrees = [sum(_are_neighbors(corner, other) for other in group) for corner in group]
    if max(degrees) == 3:  # a hexagon across the cell, where a corner and its three neighbors are cut off
        return [(DIAGONAL, 6)]
    # A hexagon bent along the middle one of the three edges that join the corners in a chain.
    first, second = (corner for corner, degree in zip(group, degrees) if degree == 2)
    middle = next(axis for axis in range(3) if first[axis] != second[axis])
    return [(DIAGONAL, 4), *((_facet(middle, axis), 2) for axis in range(3) if axis != middle)]


def _facet(*axes: int) -> Facet:
    return tuple(int(axis in axes) for axis in range(3))
