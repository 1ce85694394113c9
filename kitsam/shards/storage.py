"""How the numbers of an embedding are stored: as they are, or as bytes with a scale per channel.

int8 halves disk and bandwidth. Each channel of a slice is divided by its largest magnitude over 127 and rounded, so
that an error is at most half a step of that channel; numbers are restored on the device that uses them.
"""

import numpy as np
import torch
from torch import Tensor

LARGEST = 127


def quantize(embedding: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(C, G, G) float -> (C, G, G) int8 and scales (C,) float32, whose product is nearly the embedding."""
    values = embedding.astype(np.float32)
    scales = np.abs(values).max(axis=(1, 2)) / LARGEST
    steps = np.where(scales > 0, scales, 1)[:, None, None]
    return np.rint(values / steps).astype(np.int8), scales.astype(np.float32)


def restore(stored: Tensor, scales: Tensor | None) -> Tensor:
    """Embeddings (B, C, G, G) as stored, scales (B, C) float32 of int8 -> (B, C, G, G) floating point.

    float16, but for int8 on a CPU: float32.
    """
    if scales is None:
        return stored
    # A CPU has no fast float16 arithmetic, and the decoder computes in float32 there.
    dtype = torch.float32 if stored.device.type == "cpu" else torch.float16
    return stored.to(dtype) * scales[:, :, None, None].to(dtype)
