"""Two label maps, side by side, a few planes at a time.

A case's labels fill a small part of its volume, yet two false voxels in opposite corners stretch the box around them
to the whole of it. So the maps are gone through in slabs, each cut to the labels that it holds itself: what is worked
on stays small enough for the processor's cache, and memory beyond the maps is that of a slab, whatever they hold.

Slabs lie across the axis that runs slowest in memory (the last one for a KiTS file, whose slices alternate from byte
to byte), so that a slab is one piece of memory. Cost: one pass over the maps to find what a slab holds.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kitsam.ct.boxes import box_of

SLAB_BYTES = 2 << 20
PLANES_PER_MARGIN = 4  # at least, so that little is done twice
Box = tuple[slice, slice, slice]


class Slab(NamedTuple):
    truth: np.ndarray  # (T, H, W) C-contiguous: its own planes and a margin before and behind, cut to what they hold
    prediction: np.ndarray  # (T, H, W)
    own: slice  # the slab's own planes among the T
    start: int  # of its own planes in the volume
    is_last: bool
    rows: slice  # of the volume that H stands for
    columns: slice  # of the volume that W stands for


def slowest_first(labels: np.ndarray) -> tuple[int, int, int]:
    """The axes of a volume from the one that runs slowest in memory to the fastest."""
    return tuple(sorted(range(3), key=lambda axis: -abs(labels.strides[axis])))


def slabs(truth: np.ndarray, prediction: np.ndarray, margin: int) -> Iterator[Slab]:
    """The slabs that hold something, in order, with up to `margin` planes of their neighbors on each side."""
    planes = len(truth)
    thickness = max(SLAB_BYTES // max(truth[0].size, 1), PLANES_PER_MARGIN * margin, 1)
    for start in range(0, planes, thickness):
        stop = min(start + thickness, planes)
        first, end = max(start - margin, 0), min(stop + margin, planes)
        box = box_of(truth[first:end], prediction[first:end])
        if box is not None:
            parts = (np.ascontiguousarray(volume[first:end, box[0], box[1]]) for volume in (truth, prediction))
            yield Slab(*parts, slice(start - first, stop - first), start, stop == planes, *box)
