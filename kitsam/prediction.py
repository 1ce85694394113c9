"""CT volume -> label map, with the scan's own geometry, and a picture to look at.

The scan is brought to the canonical frame, its slices encoded, the cascade labels it, and the labels go back to the
file's own axis order and affine, voxel for voxel. Memory: the scan and its embeddings (2 MiB a slice at 1024 pixels).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kitsam.bundle import read_bundle
from kitsam.cascade import Boxes, Cascade, label_volume
from kitsam.config import PredictConfig
from kitsam.console import progress, say, warn
from kitsam.errors import CaseError, OptionError
from kitsam.kits.case import CLASS_NAMES, Geometry, Volume, read_image, save_label
from kitsam.processes import deal, start, use_bfloat16
from kitsam.report.overlay import case_overlay
from kitsam.sam.encoding import SliceEncoder
from kitsam.sam.input import View


@dataclass(frozen=True)
class Scan:
    name: str
    path: Path


def run(config: PredictConfig) -> int:
    scans = find_scans(config.ct)
    boxes = read_boxes(config.boxes, scans) if config.boxes else {}
    bundle = read_bundle(config.model)
    processes = start(config.device)
    encode = SliceEncoder(bundle.encoder, bundle.input, use_bfloat16(config.precision, processes.device), processes.device, config.batch_size)
    cascade = bundle.cascade(processes.device)
    failed = {}
    mine = deal([scan.path.stat().st_size for scan in scans], processes.num_processes)[processes.process_index]
    for scan in (scans[index] for index in mine):
        try:
            _predict_one(scan, boxes.get(scan.name), encode, cascade, config)
        except CaseError as error:
            failed[scan.name] = str(error)
            warn(str(error))
    if failed:
        warn(f"{len(failed)} of {len(mine)} scans could not be labelled: {', '.join(failed)}")
    return 1 if failed else 0


def find_scans(paths: list[Path]) -> list[Scan]:
    """A scan's name is its file's, or its folder's where the file is KiTS's imaging.nii.gz."""
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
    """Boxes by scan name: [i0, j0, k0, i1, j1, k1] in voxel indices of the file, ends included."""
    try:
        boxes = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"--boxes: {path}: cannot be read as JSON: {error}") from error
    if not isinstance(boxes, dict):
        raise OptionError(f'--boxes: {path}: expected {{"NAME": [[i0, j0, k0, i1, j1, k1], ...]}}')
    for name, listed in boxes.items():
        if name not in {scan.name for scan in scans}:
            raise OptionError(f"--boxes: {path}: no scan is named {name} (given: {', '.join(scan.name for scan in scans)})")
        if not isinstance(listed, list) or not all(map(_is_box, listed)):
            raise OptionError(f"--boxes: {path}: {name}: a box is six whole numbers i0, j0, k0, i1, j1, k1")
    return boxes


def _is_box(box: object) -> bool:
    return isinstance(box, list) and len(box) == 6 and all(type(index) is int for index in box)


def canonical_boxes(boxes: list[list[int]], geometry: Geometry, shape: tuple[int, int, int], source: str) -> Boxes:
    """Boxes in the file's voxel indices -> boxes on the canonical slices. `shape`: (S, H, W)."""
    slices, on_slices = [], []
    for box in boxes:
        ends = np.sort(np.reshape(box, (2, 3)), axis=0)
        low, high = np.empty(3, int), np.empty(3, int)
        for axis, (file_axis, direction) in enumerate(geometry.to_file.astype(int)):
            first, last = ends[:, file_axis]
            if first < 0 or last >= shape[axis]:
                raise CaseError(f"{source}: box {box} leaves the scan: index {last} on axis {file_axis} of {shape[axis]} voxels")
            flipped = shape[axis] - 1 - last, shape[axis] - 1 - first
            low[axis], high[axis] = (first, last) if direction > 0 else flipped
        for z in range(low[0], high[0] + 1):
            slices.append(z)
            on_slices.append([low[2], low[1], high[2] + 1, high[1] + 1])
    return Boxes(np.array(slices, int), np.array(on_slices, np.float32).reshape(-1, 4))


def _predict_one(scan: Scan, boxes: list[list[int]] | None, encode: SliceEncoder, cascade: Cascade, config: PredictConfig) -> None:
    volume = read_image(scan.path)
    if volume.voxels.min() >= 0:
        warn(f"{scan.path}: no voxel below 0 HU: stored without the rescaling to Hounsfield units?")
    shape = volume.voxels.shape
    given = None if boxes is None else canonical_boxes(boxes, volume.geometry, shape, str(config.boxes))
    embeddings = _encode(volume, encode, config.batch_size, scan.name)
    label = label_volume(cascade, lambda first, count: embeddings[first : first + count], shape, volume.spacing, given)
    labels, picture = config.out / f"{scan.name}.nii.gz", config.out / f"{scan.name}.png"
    save_label(labels, label, volume.geometry)
    case_overlay(picture, volume.voxels, label, None, volume.spacing, scan.name)
    milliliters = np.bincount(label.ravel(), minlength=len(CLASS_NAMES)) * np.prod(volume.spacing) / 1000
    found = ", ".join(f"{name} {amount:.1f} mL" for name, amount in zip(CLASS_NAMES[1:], milliliters[1:]))
    say(f"{scan.name}: {found}: {labels}, {picture}")


def _encode(volume: Volume, encode: SliceEncoder, batch_size: int, name: str) -> torch.Tensor:
    """(S, 256, G, G) float16."""
    image = torch.from_numpy(volume.voxels).to(encode.device)
    parts = []
    with progress(f"Encoding {name}", len(image), "slices") as tick:
        for first in range(0, len(image), batch_size):
            chosen = list(range(first, min(first + batch_size, len(image))))
            parts.append(encode(image, chosen, [View()] * len(chosen)).cpu())
            tick(len(chosen))
    return torch.cat(parts)
