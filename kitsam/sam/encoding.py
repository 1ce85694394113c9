"""Slices of a CT volume in, embeddings out."""

import torch
from torch import Tensor

from kitsam.config import InputConfig
from kitsam.sam.encoder import Encoder
from kitsam.sam.input import View, resize_pixels, to_channels


class SliceEncoder:
    """An encoder on its device, with the input settings its embeddings are made by."""

    def __init__(self, encoder: Encoder, config: InputConfig, bfloat16: bool, device: torch.device) -> None:
        self.encoder, self.config = encoder.to(device), config
        self.bfloat16, self.device = bfloat16, device

    @torch.inference_mode()
    def __call__(self, image: Tensor, slices: list[int], views: list[View]) -> Tensor:
        """`image`: (S, H, W) HU on the device; one view a slice. Returns (B, 256, G, G) float16, on the device."""
        pixels = resize_pixels(to_channels(image, slices, self.config), views, self.encoder.input_size)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            embeddings = self.encoder(pixels)
        return embeddings.half()
