"""Scans -> label maps: what `kitsam predict` does once it knows what to do.

The scan is brought to the canonical frame, its slices encoded, the cascade labels it, and the labels go back to the
file's own axis order and affine, voxel for voxel. Memory: the scan in float32, its embeddings (`scan_embeddings.py`),
and two or three label volumes.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from kitsam import __version__
from kitsam.ct.body import find_body
from kitsam.ct.config import InputConfig
from kitsam.ct.labels import CLASS_NAMES
from kitsam.ct.views import View
from kitsam.ct.volume import Volume, read_image, save_label
from kitsam.inference.bundle import read_bundle
from kitsam.inference.cascade import cascade_of, label_volume
from kitsam.inference.config import PredictConfig, names_checkpoint
from kitsam.inference.drawn import canonical_boxes, canonical_prompt
from kitsam.inference.predictions import PredictionRecord, Task, model_file, write_record
from kitsam.inference.prompted import LazyEmbeddings, count_slices, label_in_boxes
from kitsam.inference.scan_embeddings import encode_scan
from kitsam.pictures.overlay import case_overlay
from kitsam.sam.encoder import Encoder
from kitsam.sam.encoding import SliceEncoder
from kitsam.sam.pretrained import read_pretrained
from kitsam.system.console import progress, say, warn
from kitsam.system.coordination import decide, together
from kitsam.system.devices import to_device
from kitsam.system.errors import CaseError
from kitsam.system.files import sha256_of
from kitsam.system.pieces import Pieces
from kitsam.system.processes import deal, report_lost_peer, start_processes, use_bfloat16

# A scan and what is asked of it -> (S, H, W) uint8 labels in the canonical frame.
FindLabels = Callable[[Volume, Task], np.ndarray]


def label_in_processes(config: PredictConfig, find_tasks: Callable[[], list[Task]]) -> int:
    """The same for several processes, of which the main one finds out what to do."""
    start_processes(config.device)
    with report_lost_peer():
        tasks = decide(find_tasks)
        return label_scans(config, tasks) if tasks else 0


def label_scans(config: PredictConfig, tasks: list[Task]) -> int:
    """Label this process's share of the scans. Returns the exit code of all processes."""
    processes = start_processes(config.device)
    find_labels = _checkpoint_labels if names_checkpoint(config.model) else _bundle_labels
    label = partial(_label_scan, find_labels(config, processes.device), config, sha256_of(model_file(config.model)))
    sizes = decide(lambda: [task.scan.path.stat().st_size for task in tasks])
    share = deal(sizes, processes.num_processes)[processes.process_index]
    pieces = Pieces()
    failed = [number for number in share if not _try_to_label(tasks[number], number, label, pieces)]
    pieces.finish()
    names = [tasks[number].scan.name for number in sorted(gather_object(failed))]
    if names and processes.is_main_process:
        warn(f"{len(names)} of {len(tasks)} scans could not be labelled: {', '.join(names)}")
    return 1 if names else 0


def _bundle_labels(config: PredictConfig, device: torch.device) -> FindLabels:
    """By the cascade of a bundle."""
    bundle = together(lambda: read_bundle(config.model))
    encode = _slice_encoder(bundle.encoder, bundle.input, config, device)
    cascade = cascade_of(bundle.decoders, bundle.cascade, device)

    def find_labels(volume: Volume, task: Task) -> np.ndarray:
        boxes = None if task.boxes is None else canonical_boxes(task.boxes, volume.geometry, str(config.boxes))
        body = find_body(volume.voxels, volume.spacing[1:]) if bundle.input.crop == "body" else None
        voxels = body.cut(volume.voxels) if body else volume.voxels
        if body and boxes is not None:
            boxes = boxes.inside(body)
        source = encode_scan(voxels, encode, config.batch_size, task.scan.name, config.flips)
        label = label_volume(cascade, source, voxels.shape, volume.spacing, boxes)
        return body.put_back(label, volume.voxels.shape) if body else label

    return find_labels


def _checkpoint_labels(config: PredictConfig, device: torch.device) -> FindLabels:
    """By a checkpoint's own decoder, of what the boxes surround."""
    encoder, decoder = together(lambda: read_pretrained(str(config.model)))
    encode = _slice_encoder(encoder, InputConfig(), config, device)
    decoder.to(device).eval()

    def find_labels(volume: Volume, task: Task) -> np.ndarray:
        prompts = [canonical_prompt(box, volume.geometry, str(config.boxes)) for box in task.boxes]
        image = to_device(torch.from_numpy(volume.voxels), device)
        with progress(f"Encoding {task.scan.name}", count_slices(prompts, len(image)), "slices") as tick:

            def encode_slices(slices: list[int]) -> Tensor:
                parts = [
                    slices[first : first + config.batch_size] for first in range(0, len(slices), config.batch_size)
                ]
                tick(len(slices))
                return torch.cat([encode(image, part, [View()] * len(part)) for part in parts])

            embeddings = LazyEmbeddings(encode_slices)
            return label_in_boxes(decoder, embeddings, prompts, volume.voxels.shape, config.batch_size)

    return find_labels


def _slice_encoder(encoder: Encoder, input: InputConfig, config: PredictConfig, device: torch.device) -> SliceEncoder:
    encode = SliceEncoder(encoder, input, use_bfloat16(config.precision, device), device, config.batch_size)
    encode.choose_attention("auto")
    return encode


def _try_to_label(task: Task, number: int, label: "partial[str]", pieces: Pieces) -> bool:
    """Whether the scan could be labelled; what there is to say of it is said."""
    with pieces.piece(number):
        try:
            say(label(task))
        except CaseError as error:
            warn(str(error))
            return False
    return True


def _label_scan(find_labels: FindLabels, config: PredictConfig, model: str, task: Task) -> str:
    """Write the label map, its picture and its record. Returns the volumes, as a line."""
    volume = read_image(task.scan.path)
    for doubt in volume.doubts:
        warn(doubt)
    label = find_labels(volume, task)
    record = PredictionRecord(
        __version__,
        str(task.scan.path.absolute()),
        sha256_of(task.scan.path),
        str(config.model if names_checkpoint(config.model) else config.model.absolute()),
        model,
        task.boxes,
        list(volume.doubts),
        flips=config.flips,
    )
    # Slice by slice: numpy counts bytes as eight times as many.
    voxels = sum(np.bincount(plane.ravel(), minlength=len(CLASS_NAMES)) for plane in label)
    milliliters = voxels * volume.geometry.voxel_ml
    volumes = dict(zip(CLASS_NAMES[1:], milliliters[1:].tolist()))
    write_record(task.outputs.record, record)
    save_label(task.outputs.label_map, label, volume.geometry)
    case_overlay(task.outputs.picture, volume.voxels, label, None, volume.spacing, task.scan.name)
    write_record(task.outputs.record, replace(record, volumes_ml=volumes))
    text = ", ".join(f"{name} {amount:.1f} mL" for name, amount in volumes.items())
    return f"{task.scan.name}: {text}: {task.outputs.label_map}, {task.outputs.picture}"
