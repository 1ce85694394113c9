"""A slice and its augmented views in the encoder's input, and the masks that belong to them.

A slice is resized until its longer side fills the encoder's square input; it is padded at the bottom and right later,
as SAM does (segment-anything, `ResizeLongestSide` and `Sam.preprocess`). A view mirrors, rotates and scales the resized
slice about its center, shifts it, and changes its contrast and brightness; its mask is made by nearest neighbor, at the
slice's own resolution or 512 pixels, whichever is less. Coordinates are continuous: pixel `i` spans `i .. i + 1`, so
that scaling an image multiplies its coordinates.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kitsam.ct.config import ViewsConfig
from kitsam.system.devices import to_device
from kitsam.system.seeds import generator

LARGEST_MASK = 512  # pixels of the longer side of a stored mask


@dataclass(frozen=True)
class View:
    """One augmentation of a slice; by default none, the plain slice."""

    rotation: float = 0.0  # degrees
    scale: float = 1.0
    contrast: float = 1.0  # factor about mid-gray
    brightness: float = 0.0  # added, as a share of the window
    is_mirrored: bool = False  # left to right, before the rotation
    shift: tuple[float, float] = (0.0, 0.0)  # x, y, as shares of the longer side

    def is_plain(self) -> bool:
        """Whether the view changes nothing."""
        return self == View()

    def matrix(self) -> np.ndarray:
        """(2, 2): x, y from the center in the plain slice -> x, y from the center in the view."""
        angle = np.deg2rad(self.rotation)
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return self.scale * rotation * ([-1, 1] if self.is_mirrored else [1, 1])

    def offset(self, side: int) -> np.ndarray:
        """(2,): x, y by which the view is shifted, in pixels of a slice whose longer side is `side`."""
        return np.array(self.shift) * side


def draw_view(config: ViewsConfig, seed: int, case: str, slice_index: int, view: int) -> View:
    """View 0 is the plain slice; the others depend on the arguments alone."""
    if view == 0:
        return View()
    rng = generator(seed, "view", case, slice_index, view)
    return View(
        rotation=rng.uniform(-config.rotation, config.rotation),
        scale=1 + rng.uniform(-config.scale, config.scale),
        contrast=1 + rng.uniform(-config.contrast, config.contrast),
        brightness=rng.uniform(-config.contrast, config.contrast) / 2,
        is_mirrored=config.mirror and view % 2 == 1,
        shift=tuple(rng.uniform(-config.shift, config.shift, 2).tolist()),
    )


def fit(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width when the longer side is resized to `side`."""
    scale = side / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def mask_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the mask stored for a slice."""
    return fit(height, width, min(LARGEST_MASK, max(height, width)))


def resize_pixels(channels: Tensor, views: list[View], side: int) -> Tensor:
    """(B, 3, H, W) in 0..255 -> (B, 3, h, w) with the longer side `side`, each in its view. Not padded."""
    height, width = channels.shape[-2:]
    pixels = F.interpolate(channels, fit(height, width, side), mode="bilinear", align_corners=False, antialias=True)
    augmented = [index for index, view in enumerate(views) if not view.is_plain()]
    if augmented:
        views = [views[index] for index in augmented]
        rows = to_device(torch.tensor(augmented), pixels.device)
        samples = F.grid_sample(pixels[rows], _grid(views, pixels.shape[-2:], pixels.device), align_corners=False)
        changes = torch.tensor([[view.contrast, view.brightness] for view in views], dtype=pixels.dtype)
        contrast, brightness = to_device(changes, pixels.device).T[..., None, None, None]
        pixels[rows] = ((samples - 127.5) * contrast + 127.5 + 255 * brightness).clamp(0, 255)
    return pixels


def view_masks(labels: Tensor, views: list[View]) -> Tensor:
    """(B, H, W) uint8 labels -> masks (B, h, w) uint8 as they are stored, each in its view."""
    masks = labels
    size = mask_size(*labels.shape[-2:])
    if size != tuple(labels.shape[-2:]):
        masks = F.interpolate(labels[:, None].float(), size, mode="nearest-exact")[:, 0].to(torch.uint8)
    augmented = [index for index, view in enumerate(views) if not view.is_plain()]
    if augmented:
        masks = masks.clone()
        grid = _grid([views[index] for index in augmented], size, labels.device)
        samples = F.grid_sample(masks[augmented][:, None].float(), grid, mode="nearest", align_corners=False)
        masks[augmented] = samples[:, 0].to(torch.uint8)
    return masks


def _grid(views: list[View], size: tuple[int, int], device: torch.device) -> Tensor:
    """(B, h, w, 2) float32: where `grid_sample` takes each pixel of the view from, -1..1."""
    height, width = size
    # grid_sample's unit is half the height or width; the rotation is in pixels, which are square.
    unit = np.array([width / 2, height / 2])
    inverses = [np.linalg.inv(view.matrix()) for view in views]
    matrices = [inverse * unit[None, :] / unit[:, None] for inverse in inverses]
    offsets = [-inverse @ view.offset(max(size)) / unit for inverse, view in zip(inverses, views)]
    theta = torch.tensor(np.stack(list(map(np.column_stack, zip(matrices, offsets)))), dtype=torch.float32)
    return F.affine_grid(to_device(theta, device), [len(views), 1, height, width], align_corners=False)


def transform_to_input(height: int, width: int, side: int, view: View) -> np.ndarray:
    """(2, 3): x, y, 1 in the native slice -> x, y in the encoder's input, for the sample's record."""
    input_height, input_width = fit(height, width, side)
    resize = np.diag([input_width / width, input_height / height])
    center = np.array([input_width / 2, input_height / 2])
    linear = view.matrix() @ resize
    return np.column_stack([linear, center - view.matrix() @ center + view.offset(side)])
