"""Boxes around the kidneys of stored masks, by whatever settings a decoder is asked with.

The index has them for the settings of the set. For others, and for a set of format 1, which has none, those of a shard
are looked for when it is first asked for, some milliseconds a slice, and kept in a file beside its index; where that
cannot be written, for as long as the process lives.
"""

import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from kitsam.shards.boxes import Box, kidney_boxes
from kitsam.shards.manifest import ShardEntry
from kitsam.shards.reader import Place, Samples, ShardSet
from kitsam.system.errors import KitsamError
from kitsam.system.files import write_json
from kitsam.system.records import read_record

BOXES_SINCE = 2  # format whose indexes have boxes


@dataclass(frozen=True)
class _BoxesFile:
    """What is kept beside the index of a shard."""

    sha256: str  # of the tar
    merge: float
    smallest: float
    kidneys: tuple[tuple[Box, ...], ...]  # of each sample


class _ShardBoxes(NamedTuple):
    """The same in little memory: those of sample i are rows `starts[i]` to `starts[i + 1]`."""

    starts: np.ndarray  # (N + 1,) int32
    boxes: np.ndarray  # (P, 4) float32


class KidneyBoxes:
    """The boxes of a set for one pair of settings; threads may share it."""

    def __init__(self, shards: ShardSet, merge: float, smallest: float) -> None:
        """`merge` in mm and `smallest` in mm2: as in `kidney_boxes`."""
        self.shards, self.merge, self.smallest = shards, merge, smallest
        manifest, wanted = shards.manifest, {"merge": merge, "smallest": smallest}
        self.indexed = manifest.format >= BOXES_SINCE and manifest.settings.get("boxes") == wanted
        self._known: dict[str, _ShardBoxes] = {}  # by name of the shard
        self._lock = threading.Lock()

    def of(self, samples: Samples) -> list[np.ndarray]:
        """(p, 4) float32 in pixels of the mask, for each slice."""
        return [self._at(place) for place in samples.places]

    def _at(self, place: Place) -> np.ndarray:
        if self.indexed:
            return _array(self.shards.entry(place).kidneys)
        with self._lock:
            if place.shard.name not in self._known:
                self._known[place.shard.name] = _in_little_memory(self._in_shard(place.shard))
        starts, boxes = self._known[place.shard.name]
        return boxes[starts[place.number] : starts[place.number + 1]]

    def _in_shard(self, shard: ShardEntry) -> tuple[tuple[Box, ...], ...]:
        """Read from the file, or looked for and written to it."""
        index = self.shards.source.index(shard.name, shard.sha256)
        path = index.with_name(f"{index.stem}.kidneys-{self.merge:g}-{self.smallest:g}.json")
        with suppress(KitsamError):
            kept = read_record(path, _BoxesFile)
            if kept == _BoxesFile(shard.sha256, self.merge, self.smallest, kept.kidneys):
                return kept.kidneys
        boxes = tuple(
            kidney_boxes(one.mask, one.record.pixel_of(one.mask), self.merge, self.smallest)
            for one in self.shards.labels(shard)
        )
        # A set may be one that nobody may write to.
        with suppress(KitsamError):
            write_json(path, asdict(_BoxesFile(shard.sha256, self.merge, self.smallest, boxes)))
        return boxes


def _in_little_memory(boxes: tuple[tuple[Box, ...], ...]) -> _ShardBoxes:
    starts = np.array([0, *accumulate(map(len, boxes))], np.int32)
    return _ShardBoxes(starts, _array([box for one in boxes for box in one]))


def _array(boxes: list[Box] | tuple[Box, ...]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 4)
