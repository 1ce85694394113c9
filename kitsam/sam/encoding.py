"""Slices of a CT volume in, embeddings out.

HU become the encoder's channels, each slice in its view; the encoder computes in float32 or bfloat16, and embeddings
are float16. What is compiled holds for one batch size, so a smaller batch is filled up there.
"""

import torch
from torch import Tensor

from kitsam.ct.config import InputConfig
from kitsam.ct.views import View, resize_pixels
from kitsam.ct.window import to_channels
from kitsam.sam.encoder import Encoder
from kitsam.sam.tiny_vit import TinyViT
from kitsam.system.compiling import kernel_compiles
from kitsam.system.options import Compile


class SliceEncoder:
    """An encoder on its device, with its input settings; `batch_size`: most slices of one call."""

    def __init__(
        self, encoder: Encoder, config: InputConfig, bfloat16: bool, device: torch.device, batch_size: int
    ) -> None:
        self.encoder, self.config, self.batch_size = encoder.to(device), config, batch_size
        self.bfloat16, self.device = bfloat16, device

    @torch.inference_mode()
    def __call__(self, image: Tensor, slices: list[int], views: list[View]) -> Tensor:
        """Encode slices of one volume, at most `batch_size`, each in its own view.

        `image`: (S, H, W) HU on the device; `slices`: B indices; `views`: B. Returns (B, 256, G, G) float16 on the
        device.
        """
        pixels = resize_pixels(to_channels(image, slices, self.config), views, self.encoder.input_size)
        if self.encoder.uses_kernel or self.encoder.is_compiled:
            # It is compiled for one batch size: fill the batch up.
            pixels = torch.cat([pixels, pixels[-1:].expand(self.batch_size - len(pixels), -1, -1, -1)])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            embeddings = self.encoder(pixels)
        return embeddings[: len(slices)].half()

    def choose_attention(self, choice: Compile) -> None:
        """Let flex_attention attend where it can be compiled; the same in all processes, which must all call this."""
        if isinstance(self.encoder.vit, TinyViT):
            return  # attends in windows only
        self.encoder.uses_kernel = True
        self.encoder.uses_kernel = kernel_compiles(choice, self.device, self.blank_batch)

    def blank_batch(self) -> Tensor:
        """Embeddings (batch_size, 256, G, G) of blank slices: the work of a full batch, to time it."""
        side = self.encoder.input_size // 2
        return self(torch.zeros(1, side, side, device=self.device), [0] * self.batch_size, [View()] * self.batch_size)
