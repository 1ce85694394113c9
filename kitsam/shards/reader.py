"""Read a shard set: training batches in the order of `stream.py`, validation cases slice by slice.

A batch's embeddings are read from the tars straight into the rows of one tensor; the sidecars say where they lie.
Batches are made ahead of need by a thread, since reading and decoding release the interpreter.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from kitsam.errors import ShardError
from kitsam.shards.manifest import Manifest, ShardEntry, read_manifest
from kitsam.shards.sample import SampleRecord, decode_mask, decode_record
from kitsam.shards.stream import (
    SampleAddress,
    SampleOrder,
    StratumShards,
    quota_weights,
)
from kitsam.shards.writer import SampleEntry, ShardIndex, read_index

BATCHES_AHEAD = 2

T = TypeVar("T")


@dataclass(frozen=True)
class Samples:
    """Some slices, as stored."""

    records: tuple[SampleRecord, ...]
    embeddings: Tensor  # (B, 256, G, G) float16
    masks: tuple[np.ndarray, ...]  # (h, w) uint8 each


class ShardSet:
    """A finished shard set on disk."""

    def __init__(self, folder: Path, option: str = "--shards") -> None:
        """Raises as `read_manifest` does."""
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder, option)
        self.index = lru_cache(maxsize=None)(self._read_index)

    def _read_index(self, name: str) -> ShardIndex:
        path = self.folder / name
        if not path.is_file():
            raise ShardError(f"{path}: no such shard")
        index = read_index(path)
        if path.stat().st_size != index.bytes:
            raise ShardError(f"{path}: {path.stat().st_size} bytes, its index says {index.bytes}")
        return index

    def order(self, quotas: str | Mapping[str, float], batch_size: int, seed: int, strata: Sequence[str]) -> SampleOrder:
        """The order of training samples from `strata`, in a batch by `quotas`."""
        shards = {
            stratum: StratumShards(
                tuple(number for number, entry in enumerate(self.manifest.train) if entry.stratum == stratum),
                tuple(entry.samples for entry in self.manifest.train if entry.stratum == stratum),
            )
            for stratum in strata
        }
        weights = quota_weights(quotas, {stratum: sum(of.samples) for stratum, of in shards.items()})
        return SampleOrder(shards, weights, batch_size, seed)

    def keys(self, addresses: Sequence[SampleAddress]) -> list[str]:
        return [self._training_sample(address)[1].key for address in addresses]

    def read(self, addresses: Sequence[SampleAddress]) -> Samples:
        """Training samples by address."""
        return self._read_samples([self._training_sample(address) for address in addresses])

    def _training_sample(self, address: SampleAddress) -> tuple[ShardEntry, SampleEntry]:
        shard = self.manifest.train[address.shard]
        return shard, self.index(shard.name).samples[address.sample]

    def validation_slices(self, shard: ShardEntry, first: int, count: int) -> Samples:
        """Slices `first` to `first + count` of a validation case, in order; fewer at its end."""
        chosen = self.index(shard.name).samples[first : first + count]
        return self._read_samples([(shard, sample) for sample in chosen])

    def _read_samples(self, wanted: Sequence[tuple[ShardEntry, SampleEntry]]) -> Samples:
        embeddings = torch.empty((len(wanted), *self.manifest.embedding["shape"]), dtype=torch.float16)
        rows = embeddings.numpy()
        records, masks = [], []
        for row, (shard, sample) in zip(rows, wanted):
            path = self.folder / shard.name
            with open(path, "rb", buffering=0) as file:
                _read_into(file.fileno(), memoryview(row).cast("B"), sample.embedding, path)
                record, mask = (_read(file.fileno(), *place, path) for place in (sample.record, sample.mask))
            source = f"{path}: {sample.key}"
            records.append(decode_record(record, source))
            masks.append(decode_mask(mask, source))
        return Samples(tuple(records), embeddings, tuple(masks))


def _read_into(descriptor: int, buffer: memoryview, offset: int, path: Path) -> None:
    while buffer:
        count = os.preadv(descriptor, [buffer], offset)
        if not count:
            raise ShardError(f"{path}: ends before byte {offset + len(buffer)}")
        buffer, offset = buffer[count:], offset + count


def _read(descriptor: int, offset: int, size: int, path: Path) -> bytes:
    data = bytearray(size)
    _read_into(descriptor, memoryview(data), offset, path)
    return bytes(data)


def ahead(make: Callable[[int], T], first: int, last: int) -> Iterator[T]:
    """Yield make(first) ... make(last - 1), each made before it is asked for."""
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as thread:
        waiting = [thread.submit(make, step) for step in range(first, min(first + BATCHES_AHEAD, last))]
        for step in range(first, last):
            ready = waiting.pop(0)
            if step + BATCHES_AHEAD < last:
                waiting.append(thread.submit(make, step + BATCHES_AHEAD))
            yield ready.result()
