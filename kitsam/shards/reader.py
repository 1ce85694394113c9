"""Read a shard set: training samples by address, validation cases slice by slice.

Embeddings are read from the tars straight into the rows of one tensor, which may be one that is used again and again; the
indexes say where they lie. A sample costs one call to the system.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from kitsam.shards.config import CacheConfig
from kitsam.shards.index import SampleEntry, ShardIndex, read_index
from kitsam.shards.manifest import Manifest, ShardEntry, read_manifest
from kitsam.shards.masks import decode_mask
from kitsam.shards.order import SampleAddress, SampleOrder, StratumShards, quota_weights
from kitsam.shards.sample import SampleRecord
from kitsam.shards.source import open_source
from kitsam.shards.storage import restore
from kitsam.system.errors import ShardError
from kitsam.system.records import decode_record

INDEXES_KEPT = 64  # of some 100 kB each; a step draws from a window of a few shards of each stratum


@dataclass(frozen=True)
class Samples:
    """Some slices, as stored."""

    records: tuple[SampleRecord, ...]
    stored: Tensor  # (B, 256, G, G) float16 or int8
    scales: Tensor | None  # (B, 256) float32, of int8
    masks: tuple[np.ndarray, ...]  # (h, w) uint8 each

    def embeddings(self, device: torch.device) -> Tensor:
        """(B, 256, G, G) floating point."""
        scales = None if self.scales is None else self.scales.to(device)
        return restore(self.stored.to(device), scales)


class ShardSet:
    """A finished shard set, in a folder or at an address."""

    def __init__(self, shards: str | Path, cache: CacheConfig | None = None, option: str = "--shards") -> None:
        """Raises as `read_manifest` does."""
        self.source = open_source(shards, cache or CacheConfig(), option)
        self.manifest: Manifest = read_manifest(shards, option, self.source)
        self.dtype = getattr(torch, self.manifest.embedding["dtype"])
        self.index = lru_cache(INDEXES_KEPT)(self._read_index)

    def _read_index(self, shard: ShardEntry) -> ShardIndex:
        path = self.source.index(shard.name, shard.sha256)
        index = read_index(path)
        if index.sha256 != shard.sha256 or len(index.samples) != shard.samples:
            raise ShardError(f"{path}: the index of another tar than the manifest's")
        return index

    def order(
        self, quotas: str | Mapping[str, float], batch_size: int, seed: int, strata: Sequence[str]
    ) -> SampleOrder:
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

    def buffer(self, count: int) -> Tensor:
        """(count, 256, G, G) to read into; in memory that a GPU can copy from by itself, where there is one."""
        shape = (count, *self.manifest.embedding["shape"])
        return torch.empty(shape, dtype=self.dtype, pin_memory=torch.cuda.is_available())

    def read(self, addresses: Sequence[SampleAddress], into: Tensor | None = None) -> Samples:
        """Training samples by address. `into`: a `buffer` for at least as many, whose first rows become their embeddings."""
        return self._read_samples([self._training_sample(address) for address in addresses], into)

    def _training_sample(self, address: SampleAddress) -> tuple[ShardEntry, SampleEntry]:
        shard = self.manifest.train[address.shard]
        return shard, self.index(shard).samples[address.sample]

    def validation_slices(self, shard: ShardEntry, first: int, count: int) -> Samples:
        """Slices `first` to `first + count` of a validation case, in order; fewer at its end."""
        chosen = self.index(shard).samples[first : first + count]
        return self._read_samples([(shard, sample) for sample in chosen])

    def _read_samples(self, wanted: Sequence[tuple[ShardEntry, SampleEntry]], into: Tensor | None = None) -> Samples:
        stored = (self.buffer(len(wanted)) if into is None else into)[: len(wanted)]
        rows = stored.numpy()
        scales = torch.empty(stored.shape[:2]) if self.dtype == torch.int8 else None
        parts: list[tuple[SampleRecord, np.ndarray]] = [None] * len(wanted)
        with ExitStack() as files:
            opened: dict[str, BinaryIO] = {}
            # In the order in which they lie on the disk.
            for number in sorted(range(len(wanted)), key=lambda i: (wanted[i][0].name, wanted[i][1].embedding)):
                shard, sample = wanted[number]
                if shard.name not in opened:
                    opened[shard.name] = files.enter_context(self.source.open(shard.name, shard.sha256))
                rest = _read_sample(opened[shard.name], rows[number], sample, shard.name)
                if scales is not None:
                    scales[number] = torch.from_numpy(rest.scales)
                parts[number] = rest.record, rest.mask
        records, masks = zip(*parts) if parts else ((), ())
        return Samples(records, stored, scales, masks)


@dataclass(frozen=True)
class _Rest:
    """A sample without its embedding."""

    record: SampleRecord
    mask: np.ndarray  # (h, w) uint8
    scales: np.ndarray | None  # (256,) float32


def _read_sample(file: BinaryIO, row: np.ndarray, sample: SampleEntry, shard: str) -> _Rest:
    """Fill `row` with the embedding; the members behind it in the tar come with the same call."""
    begin = sample.embedding + row.nbytes
    rest = bytearray(sum(sample.mask) - begin)
    _read_into(file, [memoryview(row).cast("B"), memoryview(rest)], sample.embedding, shard)

    def member(offset: int, size: int) -> bytes:
        return bytes(rest[offset - begin : offset - begin + size])

    source = f"{shard}: {sample.key}"
    record = decode_record(member(*sample.record), SampleRecord, source, ShardError)
    mask = decode_mask(member(*sample.mask), source, empty=not any(sample.pixels[1:]))
    scales = None if sample.scale is None else np.frombuffer(rest, np.float32, len(row), sample.scale - begin)
    return _Rest(record, mask, scales)


def _read_into(file: BinaryIO, buffers: list[memoryview], offset: int, shard: str) -> None:
    while buffers:
        count = os.preadv(file.fileno(), buffers, offset)
        if not count:
            raise ShardError(f"{shard}: ends at byte {offset}, its index says otherwise")
        offset += count
        while buffers and count >= len(buffers[0]):
            count -= len(buffers.pop(0))
        if buffers:
            buffers[0] = buffers[0][count:]
