"""CT volume -> label map, with the scan's own geometry, and a picture to look at.

The scan is brought to the canonical frame, its slices encoded, the cascade labels it, and the labels go back to the
file's own axis order and affine, voxel for voxel. Memory: the scan and its embeddings (2 MiB a slice at 1024 pixels).
"""

import numpy as np
import torch
from torch import Tensor

from kitsam.ct.labels import CLASS_NAMES
from kitsam.ct.views import View
from kitsam.ct.volume import Volume, read_image, save_label
from kitsam.inference.bundle import read_bundle
from kitsam.inference.cascade import Cascade, cascade_of, label_volume
from kitsam.inference.config import PredictConfig
from kitsam.inference.scans import Scan, canonical_boxes, find_scans, read_boxes
from kitsam.pictures.overlay import case_overlay
from kitsam.sam.encoding import SliceEncoder
from kitsam.system.console import progress, say, warn
from kitsam.system.errors import CaseError
from kitsam.system.processes import deal, start_processes, use_bfloat16


def run(config: PredictConfig) -> int:
    scans = find_scans(config.ct)
    boxes = read_boxes(config.boxes, scans) if config.boxes else {}
    bundle = read_bundle(config.model)
    processes = start_processes(config.device)
    encode = SliceEncoder(
        bundle.encoder,
        bundle.input,
        use_bfloat16(config.precision, processes.device),
        processes.device,
        config.batch_size,
    )
    cascade = cascade_of(bundle.decoders, bundle.cascade, processes.device)
    failed = {}
    share = deal([scan.path.stat().st_size for scan in scans], processes.num_processes)[processes.process_index]
    for scan in (scans[index] for index in share):
        try:
            _predict_one(scan, boxes.get(scan.name), encode, cascade, config)
        except CaseError as error:
            failed[scan.name] = str(error)
            warn(str(error))
    if failed:
        warn(f"{len(failed)} of {len(share)} scans could not be labelled: {', '.join(failed)}")
    return 1 if failed else 0


def _predict_one(
    scan: Scan, boxes: list[list[int]] | None, encode: SliceEncoder, cascade: Cascade, config: PredictConfig
) -> None:
    volume = read_image(scan.path)
    if volume.voxels.min() >= 0:
        warn(f"{scan.path}: no voxel below 0 HU: stored without the rescaling to Hounsfield units?")
    shape = volume.voxels.shape
    on_slices = None if boxes is None else canonical_boxes(boxes, volume.geometry, shape, str(config.boxes))
    embeddings = _encode(volume, encode, config.batch_size, scan.name)
    label = label_volume(
        cascade, lambda first, count: embeddings[first : first + count], shape, volume.spacing, on_slices
    )
    labels, picture = config.out / f"{scan.name}.nii.gz", config.out / f"{scan.name}.png"
    save_label(labels, label, volume.geometry)
    case_overlay(picture, volume.voxels, label, None, volume.spacing, scan.name)
    milliliters = np.bincount(label.ravel(), minlength=len(CLASS_NAMES)) * np.prod(volume.spacing) / 1000
    volumes = ", ".join(f"{name} {amount:.1f} mL" for name, amount in zip(CLASS_NAMES[1:], milliliters[1:]))
    say(f"{scan.name}: {volumes}: {labels}, {picture}")


def _encode(volume: Volume, encode: SliceEncoder, batch_size: int, name: str) -> Tensor:
    """(S, 256, G, G) float16."""
    image = torch.from_numpy(volume.voxels).to(encode.device)
    parts = []
    with progress(f"Encoding {name}", len(image), "slices") as tick:
        for first in range(0, len(image), batch_size):
            slices = list(range(first, min(first + batch_size, len(image))))
            parts.append(encode(image, slices, [View()] * len(slices)).cpu())
            tick(len(slices))
    return torch.cat(parts)
