"""A small network that looks at the CT itself, voxel by voxel, beside a lesion decoder.

An embedding's cell is 8 pixels of a slice wide and knows little of HU. This network knows nothing else: of each pixel
of a kidney its surroundings at several scales, with and without what lies outside, and how the whole kidney looks. It
learns from a few dozen cases in seconds, errs elsewhere than the decoder does, and both answer together.

A second stream for detail beside a frozen encoder is nnSAM's idea (Li et al., arXiv 2309.16967). Theirs is a U-Net that
trains with the decoder; in as few steps as a decoder has here it learned nothing, so that this one trains by itself, on
measures that need not be learned.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from kitsam.system.devices import to_device

SCALES = (1.0, 2.0, 4.0, 8.0)  # standard deviations of Gaussians, mm
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of a kidney's gray values
REACH = 3  # how many standard deviations a Gaussian goes
GRAY = 64.0  # gray values of a window's 256 that count as one
EXTENT = 50.0  # mm that count as one
HIDDEN = 48  # width of the network
MEASURES = 3 * len(SCALES) + 1 + len(QUANTILES) + 2 + 6


class DetailNet(nn.Module):
    """Measures of pixels (N, MEASURES) -> logits (N,)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(MEASURES))
        self.register_buffer("deviation", torch.ones(MEASURES))
        self.layers = nn.Sequential(
            nn.Linear(MEASURES, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 1)
        )

    def forward(self, measures: Tensor) -> Tensor:
        return self.layers((measures - self.mean) / self.deviation)[:, 0]


class DetailNets(nn.ModuleList):
    """Several that differ in their first weights; their mean logit counts."""

    def forward(self, measures: Tensor) -> Tensor:
        return torch.stack([net(measures) for net in self]).mean(dim=0)


def measure(gray: Tensor, roi: Tensor, pixel: float) -> Tensor:
    """The measures (N, MEASURES) float32 of the pixels of an ROI, row by row.

    `gray`: (H, W) of the encoder's window, 0..255; `roi`: (H, W) bool; `pixel`: its side, mm.
    """
    rows, columns = (torch.nonzero(roi.any(dim=axis))[:, 0] for axis in (1, 0))
    if not len(rows):
        return gray.new_zeros((0, MEASURES), dtype=torch.float32)
    margin = math.ceil(REACH * max(SCALES) / pixel) + 1
    window = tuple(slice(max(int(some[0]) - margin, 0), int(some[-1]) + margin + 1) for some in (rows, columns))
    image, inside = gray[window].float() / GRAY, roi[window]
    mask = inside.float()
    stack = torch.stack([image, image**2, image * mask, mask])
    found = []
    for scale in SCALES:
        mean, square, within, share = _smooth(stack, scale / pixel)
        found.append(mean)
        if scale > min(SCALES):
            found += [2 * (square - mean**2).clamp(min=0).sqrt(), within / (share + 1e-3), share]
    local = torch.stack(found)[:, inside].T
    plain = local[:, [0, 1, 5]]  # smoothed over 1, 2 and 4 mm
    whole = _of_kidneys(local[:, 0], inside, pixel)
    median, upper = whole[:, 2:3], whole[:, 3:4]
    return torch.cat([local, whole, plain - median, plain - upper], dim=1)


def _smooth(images: Tensor, deviation: float) -> Tensor:
    """(C, H, W) by a Gaussian of so many pixels."""
    radius = math.ceil(REACH * deviation)
    steps = torch.arange(-radius, radius + 1, device=images.device)
    weights = torch.exp(-0.5 * (steps / deviation) ** 2)
    weights = (weights / weights.sum()).view(1, 1, 1, -1)
    images = F.conv2d(F.pad(images[:, None], (radius, radius, 0, 0), mode="replicate"), weights)
    images = F.conv2d(F.pad(images, (0, 0, radius, radius), mode="replicate"), weights.transpose(2, 3))
    return images[:, 0]


def _of_kidneys(values: Tensor, inside: Tensor, pixel: float) -> Tensor:
    """(N, 7): of the connected part of the ROI that each pixel lies in.

    Quantiles of its values, the side of a square of its area, and how many parts there are.
    """
    numbers, count = ndimage.label(inside.cpu().numpy())
    part_of = to_device(torch.from_numpy(numbers[numbers > 0]), values.device)
    levels = torch.tensor(QUANTILES, device=values.device)
    whole = values.new_empty((len(values), len(QUANTILES) + 2))
    whole[:, -1] = count / 2
    for number in range(1, count + 1):
        here = part_of == number
        some = values[here]
        whole[here, :-2] = torch.quantile(some, levels)
        whole[here, -2] = math.sqrt(len(some)) * pixel / EXTENT
    return whole


@torch.no_grad()
def answer_with_detail(
    nets: Sequence[DetailNets],
    probabilities: Tensor,  # (B, H, W) float32, of the decoders
    gray: Tensor,  # (B, H, W) of the encoder's window, 0..255, on the same device
    roi: np.ndarray,  # (B, H, W) bool
    pixel: tuple[float, float],  # mm a row and a column
) -> Tensor:
    """(B, H, W) float32: inside the ROI the mean of what decoders and networks say, elsewhere the decoders' answer."""
    answer = probabilities.clone()
    for index in np.flatnonzero(roi.any(axis=(1, 2))):
        inside = to_device(torch.from_numpy(roi[index]), answer.device)
        measures = measure(gray[index], inside, math.sqrt(math.prod(pixel)))
        seen = torch.stack([net(measures).sigmoid() for net in nets]).mean(dim=0)
        answer[index, inside] = (answer[index, inside] + seen) / 2
    return answer
