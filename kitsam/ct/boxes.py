"""Where a volume holds something, a few slices at a time.

Kidneys fill a few hundredths of a volume, so that it pays to look for parts and holes in the box of what is there. Two
false voxels in opposite corners would stretch one box to the whole volume; so each few slices have a box of their own,
small enough for the processor's cache, and memory beyond the volume is that of a box, whatever the volume holds. Cost:
one pass over the volume.
"""

from collections.abc import Iterator

import numpy as np

SLAB_BYTES = 2 << 20
Box = tuple[slice, slice, slice]  # slices, rows, columns of a volume


def box_of(*volumes: np.ndarray) -> tuple[slice, slice] | None:
    """Rows and columns that hold all that is not 0 in volumes of one shape; None where all is 0."""
    filled = volumes[0].max(axis=0)
    for volume in volumes[1:]:
        filled = np.maximum(filled, volume.max(axis=0))
    rows = np.flatnonzero(filled.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(filled[rows[0] : rows[-1] + 1].any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def filled_boxes(volume: np.ndarray) -> Iterator[Box]:
    """The boxes that hold all that is not 0 in `volume`, (S, H, W) of one byte a voxel, in order of slice."""
    slices = max(SLAB_BYTES // max(volume[0].size, 1), 1)
    for first in range(0, len(volume), slices):
        part = slice(first, min(first + slices, len(volume)))
        box = box_of(volume[part])
        if box is not None:
            yield part, *box
