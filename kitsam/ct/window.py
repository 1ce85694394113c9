"""From the HU of a slice to the three channels of the encoder's input.

A window is a range of HU: values are clipped to it and scaled to 0..255. The channels are the same slice three times,
the slice between its neighbors, or the slice in three windows.
"""

import torch
from torch import Tensor

from kitsam.ct.config import InputConfig, Window
from kitsam.system.devices import to_device


def to_channels(image: Tensor, slices: list[int], config: InputConfig) -> Tensor:
    """`image` (S, H, W) HU -> (B, 3, H, W) float32 in 0..255 of its B `slices`.

    With `adjacent` channels the first and the last slice of the scan are their own neighbors.
    """
    if config.channels == "adjacent":
        last = image.shape[0] - 1
        neighbors = [[max(z - 1, 0), z, min(z + 1, last)] for z in slices]
        return _apply_window(image[to_device(torch.tensor(neighbors), image.device)], config.window)
    plain = image[to_device(torch.tensor(slices), image.device)]
    windows = config.windows if config.channels == "windows" else (config.window,) * 3
    return torch.stack([_apply_window(plain, window) for window in windows], dim=1)


def to_gray(image: Tensor, config: InputConfig) -> Tensor:
    """HU of any shape -> float32 in 0..255 of the encoder's window, of several the first."""
    return _apply_window(image, config.windows[0] if config.channels == "windows" else config.window)


def _apply_window(hu: Tensor, window: Window) -> Tensor:
    """HU of any shape -> 0..255."""
    low, high = window
    return (hu.clamp(low, high) - low) * (255.0 / (high - low))
