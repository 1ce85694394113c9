"""Scans -> label maps: what `kitsam predict` does once it knows what to do.

The scan is brought to the canonical frame, its slices encoded, the cascade labels it, and the labels go back to the
file's own axis order and affine, voxel for voxel. Memory: the scan and its embeddings (2 MiB a slice at 1024 pixels).
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from kitsam import __version__
from kitsam.ct.labels import CLASS_NAMES
from kitsam.ct.views import View
from kitsam.ct.volume import Geometry, Volume, read_image, save_label
from kitsam.decoding.ask import SliceBoxes
from kitsam.inference.bundle import read_bundle
from kitsam.inference.cascade import Cascade, cascade_of, label_volume
from kitsam.inference.config import PredictConfig
from kitsam.inference.predictions import PredictionRecord, Task
from kitsam.inference.scans import Box
from kitsam.pictures.overlay import case_overlay
from kitsam.sam.encoding import SliceEncoder
from kitsam.system.console import progress, say, warn
from kitsam.system.coordination import decide, together
from kitsam.system.devices import to_host
from kitsam.system.errors import CaseError
from kitsam.system.files import sha256_of
from kitsam.system.pieces import Pieces
from kitsam.system.processes import deal, report_lost_peer, start_processes, use_bfloat16
from kitsam.system.seals import write_sealed


def label_in_processes(config: PredictConfig, find_tasks: Callable[[], list[Task]]) -> int:
    """The same for several processes, of which the main one finds out what to do."""
    start_processes(config.device)
    with report_lost_peer():
        tasks = decide(find_tasks)
        return label_scans(config, tasks) if tasks else 0


def label_scans(config: PredictConfig, tasks: list[Task]) -> int:
    """Label this process's share of the scans. Returns the exit code of all processes."""
    processes = start_processes(config.device)
    bundle = together(lambda: read_bundle(config.model))
    encode = SliceEncoder(
        bundle.encoder,
        bundle.input,
        use_bfloat16(config.precision, processes.device),
        processes.device,
        config.batch_size,
    )
    encode.choose_attention("auto")
    cascade = cascade_of(bundle.decoders, bundle.cascade, processes.device)
    label = partial(_label_scan, encode=encode, cascade=cascade, config=config, model=sha256_of(config.model))
    sizes = decide(lambda: [task.scan.path.stat().st_size for task in tasks])
    share = deal(sizes, processes.num_processes)[processes.process_index]
    pieces = Pieces()
    failed = [number for number in share if not _try_to_label(tasks[number], number, label, pieces)]
    pieces.finish()
    names = [tasks[number].scan.name for number in sorted(gather_object(failed))]
    if names and processes.is_main_process:
        warn(f"{len(names)} of {len(tasks)} scans could not be labelled: {', '.join(names)}")
    return 1 if names else 0


def _try_to_label(task: Task, number: int, label: "partial[str]", pieces: Pieces) -> bool:
    """Whether the scan could be labelled; what there is to say of it is said."""
    with pieces.piece(number):
        try:
            say(label(task))
        except CaseError as error:
            warn(str(error))
            return False
    return True


def _label_scan(task: Task, encode: SliceEncoder, cascade: Cascade, config: PredictConfig, model: str) -> str:
    """Write the label map, its picture and its record. Returns the volumes, as a line."""
    volume = read_image(task.scan.path)
    for doubt in volume.doubts:
        warn(doubt)
    shape = volume.voxels.shape
    boxes = None if task.boxes is None else canonical_boxes(task.boxes, volume.geometry, str(config.boxes))
    embeddings = _encode(volume, encode, config.batch_size, task.scan.name)
    label = label_volume(cascade, lambda first, count: embeddings[first : first + count], shape, volume.spacing, boxes)
    record = PredictionRecord(
        __version__,
        str(task.scan.path.absolute()),
        sha256_of(task.scan.path),
        str(config.model.absolute()),
        model,
        task.boxes,
        list(volume.doubts),
    )
    milliliters = np.bincount(label.ravel(), minlength=len(CLASS_NAMES)) * volume.geometry.voxel_ml
    volumes = dict(zip(CLASS_NAMES[1:], milliliters[1:].tolist()))
    write_sealed(task.outputs.record, asdict(record))
    save_label(task.outputs.label_map, label, volume.geometry)
    case_overlay(task.outputs.picture, volume.voxels, label, None, volume.spacing, task.scan.name)
    write_sealed(task.outputs.record, asdict(replace(record, volumes_ml=volumes)))
    text = ", ".join(f"{name} {amount:.1f} mL" for name, amount in volumes.items())
    return f"{task.scan.name}: {text}: {task.outputs.label_map}, {task.outputs.picture}"


def _encode(volume: Volume, encode: SliceEncoder, batch_size: int, name: str) -> Tensor:
    """(S, 256, G, G) float16."""
    image = torch.from_numpy(volume.voxels).to(encode.device)
    parts = []
    with progress(f"Encoding {name}", len(image), "slices") as tick:
        for first in range(0, len(image), batch_size):
            slices = list(range(first, min(first + batch_size, len(image))))
            parts.append(to_host(encode(image, slices, [View()] * len(slices))))
            tick(len(slices))
    return torch.from_numpy(np.concatenate(parts))


def canonical_boxes(boxes: list[Box], geometry: Geometry, source: str) -> SliceBoxes:
    """Boxes in the file's voxel indices -> boxes on the canonical slices.

    Raises `CaseError` naming `source` for a box that leaves the scan.
    """
    shape = geometry.shape
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
