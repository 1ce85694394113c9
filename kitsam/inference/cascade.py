"""ROI -> boxes -> lesions -> one label volume.

The ROI decoder, asked with its fixed box, finds kidneys with their masses on every slice; the mask is cleaned in 3-D.
Each kidney of a slice gives a box, with which the tumor and the cyst decoder are asked. A voxel of the ROI becomes
what is most probable there: kidney, cyst or tumor (on a tie the later wins). Lesions too small to be true become
kidney.

Networks for detail, where a lesion decoder has them, answer together with it, inside the ROI.

Where there is a second look, the checkpoint's own decoder is asked too: first with a box around each kidney, in which
the ROI is then what both see on average; at the end with a box around each part of a lesion, and kidney becomes what it
sees there.

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
from kitsam.decoding.ask import SliceBoxes, kidney_boxes, roi_boxes
from kitsam.decoding.detail import answer_with_detail
from kitsam.decoding.ensemble import Embeddings, Ensemble, ask_together, embeddings_on
from kitsam.inference.cleanup import clean_roi, drop_small_lesions
from kitsam.inference.config import CascadeConfig
from kitsam.inference.second_look import KIDNEY_PROMPT
from kitsam.sam.masks import pixels_inside
from kitsam.system.devices import to_device, to_host

# (first slice, number of slices) -> embeddings (B, 256, G, G), of the mirrored slices too or not
EmbeddingSource = Callable[[int, int], Embeddings]
# (first slice, number of slices) -> the slices in the encoder's window (B, H, W), 0..255
GraySource = Callable[[int, int], Tensor]
# Hears a decoder's answers: (its target, first slice, probabilities (B, H, W) float32, boxes on these slices)
Listener = Callable[[Target, int, Tensor, SliceBoxes], None]

SECOND_LOOK_THRESHOLD = 0.5  # probability of a lesion


def ignore(target: Target, first: int, probabilities: Tensor, boxes: SliceBoxes) -> None:
    """The listener where labels are all that is wanted."""


@dataclass(frozen=True)
class Cascade:
    """The decoders of the three targets on one device, and how their answers become labels."""

    roi: Ensemble
    tumor: Ensemble | None
    cyst: Ensemble | None
    config: CascadeConfig
    device: torch.device
    second_look: Ensemble | None = None

    @property
    def sees_details(self) -> bool:
        """Whether it needs the CT itself beside the embeddings."""
        return any(one.details for one in (self.tumor, self.cyst) if one)

    def __post_init__(self) -> None:
        for ensemble in (self.roi, self.tumor, self.cyst, self.second_look):
            if ensemble:
                ensemble.to(self.device)


def cascade_of(
    decoders: Mapping[Target, Ensemble],
    config: CascadeConfig,
    device: torch.device,
    second_look: Ensemble | None = None,
) -> Cascade:
    """`decoders`: of the ROI at least."""
    return Cascade(decoders["roi"], decoders.get("tumor"), decoders.get("cyst"), config, device, second_look)


def label_volume(
    cascade: Cascade,
    embeddings: EmbeddingSource,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],  # mm between slices, rows, columns
    boxes: SliceBoxes | None = None,
    listener: Listener = ignore,
    grays: GraySource | None = None,
) -> np.ndarray:
    """(S, H, W) uint8 labels. `boxes` drawn by hand stand for those of the ROI: only inside them is a kidney.

    `grays`: for a cascade that sees details.
    """
    label = find_roi(cascade, embeddings, shape, listener)
    if boxes is not None:
        label *= _inside(boxes, shape)
    clean_roi(label, spacing, cascade.config.smallest_roi)
    add_lesions(cascade, embeddings, label, spacing, boxes, listener, grays)
    drop_small_lesions(label, spacing, cascade.config.smallest_lesion)
    return label


def find_roi(
    cascade: Cascade, embeddings: EmbeddingSource, shape: tuple[int, int, int], listener: Listener = ignore
) -> np.ndarray:
    """(S, H, W) uint8: KIDNEY where the ROI decoder sees kidney or mass."""
    label = np.zeros(shape, np.uint8)
    for first, count in _batches(cascade, shape[0]):
        boxes = roi_boxes(cascade.roi.prompt, count, shape[1:])
        batch = embeddings_on(cascade.device, embeddings(first, count))
        probabilities = ask_together(cascade.roi, batch, boxes, shape[1:])
        listener("roi", first, probabilities, boxes)
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
    listener: Listener = ignore,
    grays: GraySource | None = None,
) -> None:
    """Write tumors and cysts into `label`, inside boxes around its kidneys or in those drawn by hand.

    With a second look the kidneys are corrected first.
    """
    config = cascade.config
    decoders = {number: one for number, one in ((TUMOR, cascade.tumor), (CYST, cascade.cyst)) if one}
    if not (decoders or cascade.second_look):
        return
    for first, count in _batches(cascade, len(label)):
        part = label[first : first + count]
        drawn = None if boxes is None else boxes.within(first, count)
        if not (part.any() if drawn is None else len(drawn.slices)):
            continue
        batch = embeddings_on(cascade.device, embeddings(first, count))
        if cascade.second_look and drawn is None:
            _correct_roi(cascade.roi, cascade.second_look, batch, part, spacing, config)
        if not decoders:
            continue
        asked = _lesion_boxes(decoders, part, spacing, drawn)
        probabilities = {
            number: ask_together(one, batch, asked[number], part.shape[1:], config.batch_size)
            for number, one in decoders.items()
        }
        if cascade.sees_details:
            gray = to_device(grays(first, count), cascade.device)
            for number, one in decoders.items():
                if one.details:
                    answer = answer_with_detail(one.details, probabilities[number], gray, part > 0, spacing[1:])
                    probabilities[number] = answer
        for number, some in probabilities.items():
            listener(CLASS_NAMES[number], first, some, asked[number])
        lesion = to_host(most_probable(probabilities, config.lesion_threshold))
        # A box drawn by hand is believed where the ROI decoder saw nothing.
        inside = part > 0 if drawn is None else _inside(drawn, part.shape)
        np.copyto(part, lesion, where=(lesion > 0) & inside)
        if cascade.second_look and (part > KIDNEY).any():
            lesion = _look_again(cascade.second_look, batch, part, spacing, config)
            np.copyto(part, lesion, where=(lesion > 0) & inside & (part <= KIDNEY))


def _correct_roi(
    roi: Ensemble,
    second_look: Ensemble,
    embeddings: Embeddings,
    label: np.ndarray,  # (B, H, W) uint8, KIDNEY on the ROI
    spacing: tuple[float, float, float],
    config: CascadeConfig,
) -> None:
    """In the box of each kidney: KIDNEY where the mean of both probabilities is above the threshold, else 0.

    The ROI decoder is asked again, since to keep its probabilities would take four more bytes a voxel.
    """
    size = label.shape[1:]
    around = kidney_boxes(label > 0, spacing[1:], KIDNEY_PROMPT)
    theirs = ask_together(second_look, embeddings, around, size, config.batch_size)
    own = ask_together(roi, embeddings, roi_boxes(roi.prompt, len(label), size), size)
    both = most_probable({KIDNEY: (own + theirs) / 2}, config.roi_threshold)
    inside = pixels_inside(around.slices, around.boxes, theirs)
    np.copyto(label, to_host(both), where=to_host(inside))


def _look_again(
    ensemble: Ensemble,
    embeddings: Embeddings,
    label: np.ndarray,  # (B, H, W) uint8
    spacing: tuple[float, float, float],
    config: CascadeConfig,
) -> np.ndarray:
    """(B, H, W) uint8: TUMOR and CYST where the ensemble sees one in the box of a part of it."""
    probabilities = {}
    for number in (TUMOR, CYST):
        boxes = kidney_boxes(label == number, spacing[1:], ensemble.prompt)
        probabilities[number] = ask_together(ensemble, embeddings, boxes, label.shape[1:], config.batch_size)
    return to_host(most_probable(probabilities, SECOND_LOOK_THRESHOLD))


def _lesion_boxes(
    decoders: Mapping[int, Ensemble],
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
