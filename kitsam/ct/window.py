"""HU of a slice -> the three channels that an encoder sees, each clipped to a window and scaled to 0..255."""

import torch
from torch import Tensor

from kitsam.ct.config import InputConfig, Window


def to_channels(image: Tensor, slices: list[int], config: InputConfig) -> Tensor:
    """`image` (S, H, W) HU -> (B, 3, H, W) float32 in 0..255, for the named slices.

    At either end of the scan `adjacent` repeats the last slice.
    """
    if config.channels == "adjacent":
        last = image.shape[0] - 1
        beside = [[max(z - 1, 0), z, min(z + 1, last)] for z in slices]
        return _windowed(image[torch.tensor(beside)], config.window)
    plain = image[torch.tensor(slices)]
    windows = config.windows if config.channels == "windows" else (config.window,) * 3
    return torch.stack([_windowed(plain, window) for window in windows], dim=1)


def _windowed(hounsfield: Tensor, window: Window) -> Tensor:
    low, high = window
    return (hounsfield.clamp(low, high) - low) * (255.0 / (high - low))
