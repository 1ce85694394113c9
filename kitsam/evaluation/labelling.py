"""How a validation case gets its labels: at once, or in spans of its slices by several processes.

In spans the device's work, asking decoders about slices, is shared; what looks at a volume in 3-D is done for the whole
case between: `begin` for each span, `go_on` for each span once all have begun, `finish` when all are there. The labels
are the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from torch import Tensor

from kitsam.ct.body import BodyBox
from kitsam.ct.volume import Volume
from kitsam.evaluation.listening import Listening
from kitsam.inference.cascade import (
    Cascade,
    EmbeddingSource,
    GraySource,
    add_lesions,
    find_roi,
    label_volume,
)
from kitsam.inference.cleanup import clean_roi, drop_small_lesions
from kitsam.inference.zero_shot import label_by_true_boxes
from kitsam.sam.decoder import BoxDecoder
from kitsam.shards.manifest import ShardEntry

Embeddings = Callable[[ShardEntry], EmbeddingSource]
Grays = Callable[[ShardEntry], GraySource]


class Labelling(Protocol):
    """Labels are (S, H, W) uint8, those of a span (stop - first, H, W).

    `listening`: to the case or to the span, hears what decoders answer.
    """

    def label(self, entry: ShardEntry, truth: Volume, listening: Listening) -> np.ndarray: ...

    def begin(self, entry: ShardEntry, truth: Volume, first: int, stop: int, listening: Listening) -> np.ndarray: ...

    def go_on(
        self, entry: ShardEntry, truth: Volume, begun: np.ndarray, first: int, stop: int, listening: Listening
    ) -> np.ndarray:
        """`begun`: of the whole case, not kept."""

    def finish(self, entry: ShardEntry, truth: Volume, labels: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class OnWholeSlices:
    """Where the slices of a set are cut to the body: labels at last cover the whole ones."""

    labelling: Labelling  # of what is cut
    body_of: Callable[[ShardEntry], BodyBox]

    def label(self, entry: ShardEntry, truth: Volume, listening: Listening) -> np.ndarray:
        heard = listening.cut(self.body_of(entry))
        return self._put_back(entry, truth, self.labelling.label(entry, self._cut(entry, truth), heard))

    def begin(self, entry: ShardEntry, truth: Volume, first: int, stop: int, listening: Listening) -> np.ndarray:
        heard = listening.cut(self.body_of(entry))
        return self.labelling.begin(entry, self._cut(entry, truth), first, stop, heard)

    def go_on(
        self, entry: ShardEntry, truth: Volume, begun: np.ndarray, first: int, stop: int, listening: Listening
    ) -> np.ndarray:
        heard = listening.cut(self.body_of(entry))
        return self.labelling.go_on(entry, self._cut(entry, truth), begun, first, stop, heard)

    def finish(self, entry: ShardEntry, truth: Volume, labels: np.ndarray) -> np.ndarray:
        return self._put_back(entry, truth, self.labelling.finish(entry, self._cut(entry, truth), labels))

    def _cut(self, entry: ShardEntry, truth: Volume) -> Volume:
        return replace(truth, voxels=self.body_of(entry).cut(truth.voxels))

    def _put_back(self, entry: ShardEntry, truth: Volume, labels: np.ndarray) -> np.ndarray:
        return self.body_of(entry).put_back(labels, truth.voxels.shape)


@dataclass(frozen=True)
class ByCascade:
    """Of the truth, only shape and spacing count."""

    cascade: Cascade
    embeddings: Embeddings
    grays: Grays | None = None  # for a cascade that sees details

    def label(self, entry: ShardEntry, truth: Volume, listening: Listening) -> np.ndarray:
        source, shape = self.embeddings(entry), truth.voxels.shape
        grays = self.grays and self.grays(entry)
        return label_volume(self.cascade, source, shape, truth.spacing, listener=listening.hear, grays=grays)

    def begin(self, entry: ShardEntry, truth: Volume, first: int, stop: int, listening: Listening) -> np.ndarray:
        shape = stop - first, *truth.voxels.shape[1:]
        return find_roi(self.cascade, _from(self.embeddings(entry), first), shape, listening.hear)

    def go_on(
        self, entry: ShardEntry, truth: Volume, begun: np.ndarray, first: int, stop: int, listening: Listening
    ) -> np.ndarray:
        clean_roi(begun, truth.spacing, self.cascade.config.smallest_roi)
        labels = begun[first:stop].copy()
        source = _from(self.embeddings(entry), first)
        grays = self.grays and _from(self.grays(entry), first)
        add_lesions(self.cascade, source, labels, truth.spacing, listener=listening.hear, grays=grays)
        return labels

    def finish(self, entry: ShardEntry, truth: Volume, labels: np.ndarray) -> np.ndarray:
        drop_small_lesions(labels, truth.spacing, self.cascade.config.smallest_lesion)
        return labels


@dataclass(frozen=True)
class ByTrueBoxes:
    """Without training: each slice for itself."""

    decoder: BoxDecoder
    embeddings: Embeddings
    batch_size: int  # slices, or boxes, at once

    def label(self, entry: ShardEntry, truth: Volume, listening: Listening) -> np.ndarray:
        return self.begin(entry, truth, 0, len(truth.voxels), listening)

    def begin(self, entry: ShardEntry, truth: Volume, first: int, stop: int, listening: Listening) -> np.ndarray:
        source, part = _from(self.embeddings(entry), first), truth.voxels[first:stop]
        return label_by_true_boxes(self.decoder, source, part, truth.spacing, self.batch_size, listening.hear)

    def go_on(
        self, entry: ShardEntry, truth: Volume, begun: np.ndarray, first: int, stop: int, listening: Listening
    ) -> np.ndarray:
        return begun[first:stop]

    def finish(self, entry: ShardEntry, truth: Volume, labels: np.ndarray) -> np.ndarray:
        return labels


def _from(slices: Callable[[int, int], Tensor], start: int) -> Callable[[int, int], Tensor]:
    """The same source, whose first slice is `start`."""

    def source(first: int, count: int) -> Tensor:
        return slices(start + first, count)

    return source
