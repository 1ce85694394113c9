"""ROI -> boxes -> lesions -> one label volume.

The ROI decoder, asked with its fixed box, finds kidneys with their masses on every slice; the mask is cleaned in 3-D.
Each kidney of a slice gives a box, with which the tumor and the cyst decoder are asked. A voxel of the ROI becomes
what is most probable there: kidney, cyst or tumor (on a tie the later wins). Lesions too small to be true become
kidney.

Slices and boxes go through the decoders in batches: a batch of embeddings is taken once for the ROI and, if it has
boxes, once for both lesions. The device decides what each voxel is, so that one byte of it comes back. Memory: a batch
of probabilities at the scan's own resolution, and two bytes a voxel.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kitsam.ct.labels import CLASS_NAMES, CYST, KIDNEY, TUMOR, Target
from kitsam.decoding.ask import SliceBoxes, TargetDecoder, ask, kidney_boxes, roi_boxes
from kitsam.inference.answers import Answers
from kitsam.inference.cleanup import clean_roi, drop_small_lesions
from kitsam.inference.config import CascadeConfig
from kitsam.system.devices import to_device, to_host

# (first slice, number of slices) -> embeddings (B, 256, G, G)
EmbeddingSource = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class Cascade:
    """The three decoders on one device, and how their answers become labels."""

    roi: TargetDecoder
    tumor: TargetDecoder | None
    cyst: TargetDecoder | None
    config: CascadeConfig
    device: torch.device

    def __post_init__(self) -> None:
        for target_decoder in (self.roi, self.tumor, self.cyst):
            if target_decoder:
                target_decoder.decoder.to(self.device).eval()


def cascade_of(decoders: Mapping[Target, TargetDecoder], config: CascadeConfig, device: torch.device) -> Cascade:
    """`decoders`: of the ROI at least."""
    return Cascade(decoders["roi"], decoders.get("tumor"), decoders.get("cyst"), config, device)


def label_volume(
    cascade: Cascade,
    embeddings: EmbeddingSource,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],  # mm between slices, rows, columns
    boxes: SliceBoxes | None = None,
    answers: Answers | None = None,
) -> np.ndarray:
    """(S, H, W) uint8 labels. `boxes` drawn by hand stand for those of the ROI: only inside them is a kidney.

    `answers` takes the decoders' probabilities.
    """
    label = find_roi(cascade, embeddings, shape, answers)
    if boxes is not None:
        label *= _inside(boxes, shape)
    clean_roi(label, spacing, cascade.config.smallest_roi)
    add_lesions(cascade, embeddings, label, spacing, boxes, answers)
    drop_small_lesions(label, spacing, cascade.config.smallest_lesion)
    return label


def find_roi(
    cascade: Cascade, embeddings: EmbeddingSource, shape: tuple[int, int, int], answers: Answers | None = None
) -> np.ndarray:
    """(S, H, W) uint8: KIDNEY where the ROI decoder sees kidney or mass."""
    label = np.zeros(shape, np.uint8)
    for first, count in _batches(cascade, shape[0]):
        boxes = roi_boxes(cascade.roi.prompt, count, shape[1:])
        probabilities = ask(cascade.roi.decoder, to_device(embeddings(first, count), cascade.device), boxes, shape[1:])
        if answers is not None:
            answers.keep("roi", first, probabilities)
        label[first : first + count] = to_host(most_probable({KIDNEY: probabilities}, cascade.config.roi_threshold))
    return label


def _batches(cascade: Cascade, slices: int) -> Iterator[tuple[int, int]]:
    """First slice and number of slices of each batch."""
    for first in range(0, slices, cascade.config.batch_size):
        yield first, min(cascade.config.batch_size, slices - first)


def most_probable(probabilities: Mapping[int, Tensor], threshold: float) -> Tensor:
    """Probabilities of a shape by class -> uint8 classes, 0 where none is above the threshold; on a tie the first."""
    largest: float | Tensor = threshold
    *others, last = probabilities
    label = torch.zeros_like(probabilities[last], dtype=torch.uint8)
    for number in others:
        label.masked_fill_(probabilities[number] > largest, number)
        largest = probabilities[number].clamp(min=largest)
    return label.masked_fill_(probabilities[last] > largest, last)


def add_lesions(
    cascade: Cascade,
    embeddings: EmbeddingSource,
    label: np.ndarray,  # (S, H, W) uint8, KIDNEY on the ROI
    spacing: tuple[float, float, float],
    boxes: SliceBoxes | None = None,
    answers: Answers | None = None,
) -> None:
    """Write tumors and cysts into `label`, inside boxes around its kidneys or in those drawn by hand."""
    config = cascade.config
    decoders = {number: one for number, one in ((TUMOR, cascade.tumor), (CYST, cascade.cyst)) if one}
    asked = _lesion_boxes(decoders, label, spacing, boxes)
    for first, count in _batches(cascade, len(label)):
        here = {number: every.within(first, count) for number, every in asked.items()}
        if not any(len(some.slices) for some in here.values()):
            continue
        batch = to_device(embeddings(first, count), cascade.device)
        probabilities = {
            number: ask(one.decoder, batch, here[number], label.shape[1:], config.batch_size)
            for number, one in decoders.items()
        }
        if answers is not None:
            for number, some in probabilities.items():
                answers.keep(CLASS_NAMES[number], first, some)
        lesion = to_host(most_probable(probabilities, config.lesion_threshold))
        part = label[first : first + count]
        # A box drawn by hand is believed where the ROI decoder saw nothing.
        np.copyto(part, lesion, where=(lesion > 0) & ((part > 0) | (boxes is not None)))


def _lesion_boxes(
    decoders: Mapping[int, TargetDecoder],
    label: np.ndarray,  # (S, H, W) uint8
    spacing: tuple[float, float, float],
    drawn: SliceBoxes | None,
) -> dict[int, SliceBoxes]:
    """By class; decoders of the same prompts share them."""
    if drawn is not None:
        return dict.fromkeys(decoders, drawn)
    roi = label > 0
    boxes: dict[int, SliceBoxes] = {}
    for number, one in decoders.items():
        same = [boxes[other] for other in boxes if decoders[other].prompt == one.prompt]
        boxes[number] = same[0] if same else kidney_boxes(roi, spacing[1:], one.prompt)
    return boxes


def _inside(boxes: SliceBoxes, shape: tuple[int, int, int]) -> np.ndarray:
    """(S, H, W) bool: the voxels that lie in a box."""
    inside = np.zeros(shape, bool)
    for z, (x0, y0, x1, y1) in zip(boxes.slices, np.rint(boxes.boxes).astype(int)):
        inside[z, y0:y1, x0:x1] = True
    return inside
