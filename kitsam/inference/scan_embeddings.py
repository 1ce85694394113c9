"""A scan's embeddings, encoded once and held in memory for the passes of the decoders.

They are kept as the encoder gives them, in float16: 2 MiB a slice at 1024 pixels. A scan so long that this is more than
2 GiB keeps them in int8 with a scale per channel, as shards may: 1 GiB for the longest of KiTS, 1,059 slices.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from kitsam.ct.views import View
from kitsam.inference.cascade import EmbeddingSource
from kitsam.sam.encoding import SliceEncoder
from kitsam.shards.storage import quantize, restore
from kitsam.system.devices import to_device, to_host

MOST_BYTES = 2 << 30  # of embeddings in float16


def encode_scan(
    voxels: np.ndarray, encode: SliceEncoder, batch_size: int, tick: Callable[[int], None]
) -> EmbeddingSource:
    """The embeddings of all slices of `voxels`, (S, H, W) HU; `tick` is told of each batch how many are done."""
    image = torch.from_numpy(voxels).to(encode.device)
    store: _Store | None = None
    for first in range(0, len(image), batch_size):
        slices = list(range(first, min(first + batch_size, len(image))))
        batch = to_host(encode(image, slices, [View()] * len(slices)))
        store = store or _Store(len(image), batch)
        store.keep(first, batch)
        tick(len(slices))

    def source(first: int, count: int) -> Tensor:
        return store.embeddings(first, count, encode.device)

    return source


class _Store:
    """(S, 256, G, G) in float16 or int8."""

    def __init__(self, slices: int, batch: np.ndarray) -> None:
        """`batch`: some of the embeddings, float16."""
        shape = slices, *batch.shape[1:]
        is_long = batch[0].nbytes * slices > MOST_BYTES
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
