"""The scans of `kitsam predict`, by name, and boxes in the voxel indices of their files."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kitsam.ct.volume import Geometry
from kitsam.decoding.ask import SliceBoxes
from kitsam.system.errors import CaseError, OptionError


@dataclass(frozen=True)
class Scan:
    """A file to label."""

    name: str
    path: Path


def find_scans(paths: list[Path]) -> list[Scan]:
    """The scans by name: that of the file, or of its folder where the file is KiTS's imaging.nii.gz.

    Raises `OptionError` for a path that is no scan, or two scans of one name.
    """
    scans = []
    for path in paths:
        file = path / "imaging.nii.gz" if path.is_dir() else path
        if not file.is_file():
            raise OptionError(f"ct: no such file: {file}")
        if not file.name.endswith((".nii", ".nii.gz")):
            raise OptionError(f"ct: not a NIfTI file (.nii, .nii.gz): {file}")
        name = file.name.removesuffix(".gz").removesuffix(".nii").removesuffix("_0000")
        scans.append(Scan(file.absolute().parent.name if name == "imaging" else name, file))
    twice = [scan.name for scan in scans if sum(scan.name == other.name for other in scans) > 1]
    if twice:
        raise OptionError(f"ct: two scans are named {twice[0]}, and would be written to the same file")
    return scans


def read_boxes(path: Path, scans: list[Scan]) -> dict[str, list[list[int]]]:
    """Boxes by scan name: [i0, j0, k0, i1, j1, k1] in voxel indices of the file, ends included.

    Raises `OptionError` naming what is wrong with the file.
    """
    try:
        boxes = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"--boxes: {path}: cannot be read as JSON: {error}") from error
    if not isinstance(boxes, dict):
        raise OptionError(f'--boxes: {path}: expected {{"NAME": [[i0, j0, k0, i1, j1, k1], ...]}}')
    for name, entries in boxes.items():
        if name not in {scan.name for scan in scans}:
            raise OptionError(
                f"--boxes: {path}: no scan is named {name} (given: {', '.join(scan.name for scan in scans)})"
            )
        if not isinstance(entries, list) or not all(map(_is_box, entries)):
            raise OptionError(f"--boxes: {path}: {name}: a box is six whole numbers i0, j0, k0, i1, j1, k1")
    return boxes


def _is_box(box: object) -> bool:
    return isinstance(box, list) and len(box) == 6 and all(type(index) is int for index in box)


def canonical_boxes(boxes: list[list[int]], geometry: Geometry, shape: tuple[int, int, int], source: str) -> SliceBoxes:
    """Boxes in the file's voxel indices -> boxes on the canonical slices. `shape`: (S, H, W)."""
    slices, on_slices = [], []
    for box in boxes:
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
        for z in range(low[0], high[0] + 1):
            slices.append(z)
            on_slices.append([low[2], low[1], high[2] + 1, high[1] + 1])
    return SliceBoxes(np.array(slices, int), np.array(on_slices, np.float32).reshape(-1, 4))
