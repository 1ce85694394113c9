"""A scan's embeddings, encoded once and held in memory for the passes of the decoders.

They are kept as the encoder gives them, in float16: 2 MiB a slice at 1024 pixels. A scan so long that this is more than
2 GiB keeps them in int8 with a scale per channel, as shards may: 1 GiB for the longest of KiTS, 1,059 slices. Mirrored
slices take as much again; both together keep to the same limit.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from kitsam.ct.config import InputConfig
from kitsam.ct.views import View
from kitsam.ct.window import to_gray
from kitsam.decoding.ensemble import WithMirrored
from kitsam.inference.cascade import EmbeddingSource, GraySource
from kitsam.sam.encoding import SliceEncoder
from kitsam.shards.storage import quantize, restore
from kitsam.system.devices import to_device, to_host

MOST_BYTES = 2 << 30  # of embeddings in float16


def encode_scan(
    voxels: np.ndarray, encode: SliceEncoder, batch_size: int, tick: Callable[[int], None], flips: bool = False
) -> EmbeddingSource:
    """The embeddings of all slices of `voxels`, (S, H, W) HU; `flips`: of the mirrored slices too.

    `tick` is told of each batch how many slices are done.
    """
    if not flips:
        return _encode(voxels, encode, batch_size, tick, MOST_BYTES)
    plain = _encode(voxels, encode, batch_size, tick, MOST_BYTES // 2)
    mirrored = _encode(mirror(voxels), encode, batch_size, tick, MOST_BYTES // 2)
    return with_mirrored(plain, mirrored)


def grays_of(voxels: np.ndarray, input: InputConfig) -> GraySource:
    """The slices of `voxels`, (S, H, W) HU, as they are stored beside embeddings."""
    return lambda first, count: to_gray(torch.from_numpy(voxels[first : first + count]), input)


def mirror(voxels: np.ndarray) -> np.ndarray:
    """(S, H, W) -> the same slices mirrored left to right."""
    return np.ascontiguousarray(voxels[..., ::-1])


def with_mirrored(plain: EmbeddingSource, mirrored: EmbeddingSource) -> EmbeddingSource:
    return lambda first, count: WithMirrored(plain(first, count), mirrored(first, count))


def _encode(
    voxels: np.ndarray, encode: SliceEncoder, batch_size: int, tick: Callable[[int], None], most_bytes: int
) -> Callable[[int, int], Tensor]:
    image = torch.from_numpy(voxels).to(encode.device)
    store: _Store | None = None
    for first in range(0, len(image), batch_size):
        slices = list(range(first, min(first + batch_size, len(image))))
        batch = to_host(encode(image, slices, [View()] * len(slices)))
        store = store or _Store(len(image), batch, most_bytes)
        store.keep(first, batch)
        tick(len(slices))

    def source(first: int, count: int) -> Tensor:
        return store.embeddings(first, count, encode.device)

    return source


class _Store:
    """(S, 256, G, G) in float16 or int8."""

    def __init__(self, slices: int, batch: np.ndarray, most_bytes: int) -> None:
        """`batch`: some of the embeddings, float16; `most_bytes`: of all of them in float16, else they become int8."""
        shape = slices, *batch.shape[1:]
        is_long = batch[0].nbytes * slices > most_bytes
        self.numbers = torch.empty(shape, dtype=torch.int8 if is_long else torch.float16)
        self.scales = torch.empty(shape[:2]) if is_long else None

    def keep(self, first: int, batch: np.ndarray) -> None:
        for z, embedding in enumerate(batch, first):
            if self.scales is None:
                self.numbers[z] = torch.from_numpy(embedding)
            else:
                numbers, scales = quantize(embedding)
                self.numbers[z], self.scales[z] = torch.from_numpy(numbers), torch.from_numpy(scales)

    def embeddings(self, first: int, count: int, device: torch.device) -> Tensor:
        """(B, 256, G, G) floating point on the device."""
        part = slice(first, first + count)
        scales = None if self.scales is None else to_device(self.scales[part], device)
        return restore(to_device(self.numbers[part], device), scales)
