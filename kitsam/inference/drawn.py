"""Boxes drawn by hand, from the voxel indices of a scan's file to its canonical slices."""

import numpy as np

from kitsam.ct.volume import Geometry
from kitsam.decoding.ask import SliceBoxes
from kitsam.inference.prompted import CanonicalPrompt
from kitsam.inference.scans import Box, BoxPrompt, DrawnBox
from kitsam.system.errors import CaseError


def canonical_prompt(drawn: DrawnBox, geometry: Geometry, source: str) -> CanonicalPrompt:
    """Raises `CaseError` naming `source` for a box that leaves the scan."""
    prompt = drawn if isinstance(drawn, BoxPrompt) else BoxPrompt(drawn)
    low, high = _ends(prompt.box, geometry, source)
    corners = np.array([low[2], low[1], high[2] + 1, high[1] + 1], np.float32)
    return CanonicalPrompt(range(low[0], high[0] + 1), corners, prompt.label, prompt.propagate)


def canonical_boxes(boxes: list[Box], geometry: Geometry, source: str) -> SliceBoxes:
    """The boxes on each slice. Raises as `canonical_prompt` does."""
    prompts = [canonical_prompt(box, geometry, source) for box in boxes]
    slices = [z for prompt in prompts for z in prompt.slices]
    corners = [prompt.corners for prompt in prompts for _ in prompt.slices]
    return SliceBoxes(np.array(slices, int), np.array(corners, np.float32).reshape(-1, 4))


def _ends(box: Box, geometry: Geometry, source: str) -> tuple[np.ndarray, np.ndarray]:
    """(3,) int each: the first and the last voxel, in slices, rows, columns."""
    shape = geometry.shape
    ends = np.sort(np.reshape(box, (2, 3)), axis=0)
    low, high = np.empty(3, int), np.empty(3, int)
    for axis, (file_axis, direction) in enumerate(geometry.to_file.astype(int)):
        first, last = ends[:, file_axis]
        if first < 0 or last >= shape[axis]:
            raise CaseError(
                f"{source}: box {box} leaves the scan: index {last} on axis {file_axis} of {shape[axis]} voxels"
            )
        from_end = shape[axis] - 1 - last, shape[axis] - 1 - first
        low[axis], high[axis] = (first, last) if direction > 0 else from_end
    return low, high
