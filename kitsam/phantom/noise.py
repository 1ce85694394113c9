"""Noise as filtered back projection leaves it: colored in the plane, correlated between overlapping slices.

White noise of the detector comes out of the reconstruction's ramp filter weak at low frequencies and out of its
smoothing kernel weak at high ones (Riederer, Pelc and Chesler 1978, "The noise power spectrum in computed X-ray
tomography"): a power of f exp(-(f / kernel)^2). Rays that cross the body from side to side lose most of their photons,
so that it also forms streaks along the rows. A slice takes in the detector rows of its thickness; where slices lie
closer than that, they share noise. Cost: one Fourier transform there and back a slice, memory of some slices.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import fft

from kitsam.system.seeds import generator

# In even tissue of 25 KiTS cases, a slice of each: 11-17 HU at 5 mm between slices, 15-34 HU at 0.5-1.5 mm.
USUAL_DEVIATION, USUAL_THICKNESS = 13.0, 5.0  # HU, mm
THICKNESS_POWER = 0.4  # chosen to meet both; photons alone would give 0.5
PROFILE_WIDTHS = 2.355  # full width at half maximum of a slice's profile, in its standard deviations
NEGLIGIBLE = 0.02  # weight of a neighboring slice, below which it shares no noise


@dataclass(frozen=True)
class Noise:
    """How noisy a scan is."""

    deviation: float  # HU, in the body's middle
    kernel: float  # cycles per mm; most power lies at 0.7 of it
    streaks: float  # power of waves across the rows, over that of waves along them, less one
    thickness: float  # mm, of a slice


def draw_noise(rng: np.random.Generator, slice_spacing: float) -> Noise:
    """Noise as usual for slices `slice_spacing` mm apart."""
    thickness = max(slice_spacing * rng.uniform(1.0, 1.3), 0.8)
    return Noise(
        deviation=USUAL_DEVIATION * (USUAL_THICKNESS / thickness) ** THICKNESS_POWER * rng.uniform(0.8, 1.5),
        kernel=rng.uniform(0.13, 0.38),
        streaks=rng.uniform(0.1, 2.0),
        thickness=thickness,
    )


def noise_slices(
    noise: Noise, shape: tuple[int, int, int], spacing: tuple[float, float, float], *purpose: int | str
) -> Iterator[np.ndarray]:
    """Each slice's noise, (H, W) float32 in HU with mean 0, first to last; `spacing`: mm a slice, row, column.

    `purpose` names the random numbers: the same names give the same noise.
    """
    gain = _gain(noise, shape[1:], spacing[1:])
    weights = slice_weights(noise.thickness / spacing[0])
    reach = len(weights) // 2
    white: deque[np.ndarray] = deque(maxlen=len(weights))
    for ahead in range(-reach, shape[0] + reach):
        white.append(generator(*purpose, ahead).standard_normal(shape[1:], dtype=np.float32))
        if len(white) == len(weights):
            mixed = sum(weight * one for weight, one in zip(weights, white))
            yield fft.irfft2(fft.rfft2(mixed) * gain, shape[1:])


def slice_weights(thickness: float) -> np.ndarray:
    """(2 r + 1,) float32 shares of the white noise of slice -r .. r, of norm 1; `thickness`: in slice spacings."""
    deviation = thickness / PROFILE_WIDTHS
    reach = int(deviation * math.sqrt(-2 * math.log(NEGLIGIBLE)))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    return (weights / np.linalg.norm(weights)).astype(np.float32)


def _gain(noise: Noise, shape: tuple[int, int], pixel: tuple[float, float]) -> np.ndarray:
    """(H, W // 2 + 1) float32: what makes of white noise of deviation 1 that of a slice."""
    rows, columns = fft.fftfreq(shape[0], pixel[0])[:, None], fft.fftfreq(shape[1], pixel[1])[None]
    square = rows**2 + columns**2
    across = rows**2 / np.maximum(square, np.finfo(float).tiny)
    power = np.sqrt(square) * np.exp(-square / noise.kernel**2) * (1 + noise.streaks * across)
    power *= noise.deviation**2 / power.mean()
    return np.sqrt(power[:, : shape[1] // 2 + 1]).astype(np.float32)
