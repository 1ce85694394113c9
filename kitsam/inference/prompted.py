"""What a checkpoint's own decoder finds in boxes drawn by hand, without any training.

A box is asked slice by slice. One that is to be followed goes on beyond its first and its last slice: the next slice is
asked with the box around the mask of the one before, until a mask is empty. A voxel that several boxes find gets the
label of the most probable answer.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kitsam.ct.labels import CLASS_NAMES
from kitsam.ct.volume import Volume
from kitsam.decoding.ask import SliceBoxes, ask
from kitsam.inference.answers import Answers
from kitsam.sam.boxes import clip, enlarge
from kitsam.sam.decoder import BoxDecoder
from kitsam.system.devices import to_host

THRESHOLD = 0.5  # probability above which a voxel belongs to what the box surrounds
# By how much the box in the next slice is larger than the mask, on each side: a share of its length. Measured with
# lite_medsam on the kidneys of a real scan, followed from three slices each: Dice 0.91 to 0.93; with 0.05 a kidney is
# lost where it grows (0.64 to 0.94), with 0.15 it runs into its neighbors (0.71 to 0.92); at least a pixel never ends.
FOLLOWING_MARGIN = 0.1
MOST_KEPT = 64  # slices whose embeddings stay for the next box, 4 MiB each at most: a kidney of 3 mm slices


@dataclass(frozen=True)
class CanonicalPrompt:
    """A box on canonical slices."""

    slices: range
    corners: np.ndarray  # (4,) float32, x0 y0 x1 y1 in pixels of the slice
    label: int
    propagate: bool


def count_slices(prompts: list[CanonicalPrompt], slices: int) -> int:
    """How many of a scan's `slices` may have to be encoded: a box that is followed may reach any of them."""
    if any(prompt.propagate for prompt in prompts):
        return slices
    return len({z for prompt in prompts for z in prompt.slices})


# slices -> embeddings (B, 256, G, G) on the decoder's device
SliceEmbeddings = Callable[[list[int]], Tensor]


def label_in_boxes(
    decoder: BoxDecoder,
    embeddings: SliceEmbeddings,
    prompts: Iterable[CanonicalPrompt],
    shape: tuple[int, int, int],
    batch_size: int,
    answers: Answers | None = None,
) -> np.ndarray:
    """(S, H, W) uint8 labels; 0 where no box found anything. `batch_size`: slices asked at once; `answers` takes the
    probabilities by class.
    """
    label = np.zeros(shape, np.uint8)
    best = np.full(shape, THRESHOLD, np.float32)
    for prompt in prompts:
        for z, probabilities in _answers(decoder, embeddings, prompt, shape, batch_size):
            if answers is not None:
                answers.keep(CLASS_NAMES[prompt.label], z, probabilities[None])
            better = probabilities > best[z]
            label[z][better] = prompt.label
            best[z][better] = probabilities[better]
    return label


def _answers(
    decoder: BoxDecoder,
    embeddings: SliceEmbeddings,
    prompt: CanonicalPrompt,
    shape: tuple[int, int, int],
    batch_size: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield slices and their probabilities, (H, W) float32."""

    def ask_on(slices: list[int], corners: np.ndarray) -> np.ndarray:
        boxes = SliceBoxes(np.arange(len(slices)), np.tile(corners, (len(slices), 1)))
        return to_host(ask(decoder, embeddings(slices), boxes, shape[1:]))

    last_masks = {}  # of the slices from which the box is followed
    for first in range(0, len(prompt.slices), batch_size):
        slices = list(prompt.slices[first : first + batch_size])
        for z, probabilities in zip(slices, ask_on(slices, prompt.corners)):
            yield z, probabilities
            if prompt.propagate and z in (prompt.slices[0], prompt.slices[-1]):
                last_masks[z] = probabilities > THRESHOLD
    for z, mask in last_masks.items():
        for step in _directions(z, prompt.slices):
            yield from _follow(ask_on, z, mask, step, shape[0])


def _directions(z: int, slices: range) -> list[int]:
    """Up from the last slice, down from the first."""
    return [step for step, end in ((1, slices[-1]), (-1, slices[0])) if z == end]


def _follow(
    ask_on: Callable[[list[int], np.ndarray], np.ndarray], z: int, mask: np.ndarray, step: int, slices: int
) -> Iterator[tuple[int, np.ndarray]]:
    while mask.any() and 0 <= z + step < slices:
        z += step
        probabilities = ask_on([z], _box_around(mask))[0]
        mask = probabilities > THRESHOLD
        yield z, probabilities


def _box_around(mask: np.ndarray) -> np.ndarray:
    """(4,) float32: around what is found, and a little more."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)
    return clip(enlarge(box, FOLLOWING_MARGIN), *mask.shape)[0]


class LazyEmbeddings:
    """Encodes a slice when it is first asked for."""

    def __init__(self, encode: Callable[[list[int]], Tensor], known: dict[int, Tensor] | None = None) -> None:
        """`known`: embeddings by slice, (256, G, G), to which others are added."""
        self.encode = encode
        self.known = {} if known is None else known

    def __call__(self, slices: list[int]) -> Tensor:
        missing = [z for z in slices if z not in self.known]
        if missing:
            self.known.update(zip(missing, self.encode(missing)))
        return torch.stack([self.known[z] for z in slices])


class RecentEmbeddings:
    """Those of the scan that was labelled last, so that a box that was changed is asked again without encoding."""

    def __init__(self) -> None:
        self._scan: weakref.ref[Volume] | None = None
        self._known: dict[int, Tensor] = {}

    def of(self, scan: Volume) -> dict[int, Tensor]:
        """By slice, for `LazyEmbeddings`; the latest at most, of this scan alone."""
        if self._scan is None or self._scan() is not scan:
            self._scan, self._known = weakref.ref(scan), {}
        for z in list(self._known)[:-MOST_KEPT]:
            del self._known[z]
        return self._known
