"""Decoders of one target that answer together: a run's, or those of several folds or seeds.

They are asked one after another about the same batch of slices, also mirrored where a scan's mirrored slices were
encoded too, and their probabilities are averaged as they come. Memory: one answer beside the sum, (B, H, W) float32
each, however many there are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kitsam.decoding.ask import SliceBoxes, TargetDecoder, ask
from kitsam.decoding.config import PromptConfig
from kitsam.decoding.detail import DetailNets
from kitsam.sam.decoder import BoxDecoder
from kitsam.system.devices import to_device


@dataclass(frozen=True)
class Ensemble:
    """The decoders of one target, and the prompts that all of them were trained with."""

    decoders: tuple[BoxDecoder, ...]
    prompt: PromptConfig
    details: tuple[DetailNets, ...] = ()  # of those runs that have them

    def to(self, device: torch.device) -> None:
        """Have them answer on this device."""
        for one in (*self.decoders, *self.details):
            one.to(device).eval()


def ensemble_of(members: Sequence[TargetDecoder]) -> Ensemble:
    """`members`: one at least, of the same target and prompts."""
    details = tuple(member.detail for member in members if member.detail)
    return Ensemble(tuple(member.decoder for member in members), members[0].prompt, details)


class WithMirrored(NamedTuple):
    """Embeddings of slices, and of the same slices mirrored left to right, (B, 256, G, G) each."""

    plain: Tensor
    mirrored: Tensor


Embeddings = Tensor | WithMirrored


def embeddings_on(device: torch.device, embeddings: Embeddings) -> Embeddings:
    if isinstance(embeddings, WithMirrored):
        return WithMirrored(*(to_device(one, device) for one in embeddings))
    return to_device(embeddings, device)


def ask_together(
    ensemble: Ensemble,
    embeddings: Embeddings,  # on the decoders' device
    boxes: SliceBoxes,  # on these slices, not mirrored
    size: tuple[int, int],  # rows, columns of a slice
    boxes_at_once: int | None = None,
) -> Tensor:
    """(B, H, W) float32 on the device: the mean probability at each pixel, zero outside the boxes.

    Probabilities are averaged, not logits: thresholds are probabilities, and decoders that were trained apart differ in
    how far from zero their logits go. A mean of logits goes to the one that exaggerates most, and one pixel of it at
    -30 outvotes any number of others; of probabilities each has the same vote.
    """
    answers = _answers(ensemble, embeddings, boxes, size, boxes_at_once)
    total = next(answers)
    count = 1
    for answer in answers:
        total += answer
        count += 1
    return total if count == 1 else total.div_(count)


def _answers(
    ensemble: Ensemble, embeddings: Embeddings, boxes: SliceBoxes, size: tuple[int, int], boxes_at_once: int | None
) -> Iterator[Tensor]:
    """One of each decoder, and one more of the mirrored slices."""
    both = isinstance(embeddings, WithMirrored)
    for decoder in ensemble.decoders:
        yield ask(decoder, embeddings.plain if both else embeddings, boxes, size, boxes_at_once)
        if both:
            yield ask(decoder, embeddings.mirrored, mirrored(boxes, size[1]), size, boxes_at_once).flip(-1)


def mirrored(boxes: SliceBoxes, width: int) -> SliceBoxes:
    """The boxes on slices of `width` columns that are mirrored left to right."""
    x0, y0, x1, y1 = boxes.boxes.T
    return SliceBoxes(boxes.slices, np.stack([width - x1, y0, width - x0, y1], axis=1))
