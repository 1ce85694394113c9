"""`python docs/make/rendered_beside_real.py REAL RENDERED` compares a folder of real KiTS cases with rendered ones.

It draws docs/pictures/rendered_beside_real.svg and prints its numbers: the HU of kidneys and tumors, and how the noise
of even tissue spreads over frequencies. HU are clipped to those of the real slices at hand, 0 to 255. Even tissue: the
patches of a slice that are nowhere clipped and, with a plane taken out, vary least.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy import fft

from kitsam.ct.labels import KIDNEY, TUMOR
from kitsam.ct.volume import read_image, read_label

PICTURE = Path(__file__).parents[1] / "pictures" / "rendered_beside_real.svg"
LEAST_HU, MOST_HU = 0, 255
PATCH = 32  # pixels a side, some 25 mm
EVENEST = 0.1  # share of a slice's whole patches
FREQUENCIES = np.linspace(0, 0.6, 25)  # cycles per mm, ends of the spectrum's bins
LOW = 0.1  # cycles per mm
HU_BINS = np.linspace(LEAST_HU, MOST_HU, 52)
COLORS = {"real": "#1f5fbf", "rendered": "#d6722d"}


class Look(NamedTuple):
    """Of all slices of a data set that hold a kidney."""

    kidney: np.ndarray  # (N,) HU
    tumor: np.ndarray
    noise: np.ndarray  # (M,) HU, standard deviation in even tissue, of each slice
    spectra: np.ndarray  # (M, F) shares of the noise's power


def look_at(folder: Path) -> Look:
    kidney, tumor, noise, spectra = [], [], [], []
    for case in sorted(folder.glob("*/imaging.nii.gz")):
        volume = read_image(case)
        label = read_label(case.with_name("segmentation.nii.gz")).voxels
        hu = volume.voxels.clip(LEAST_HU, MOST_HU)
        kidney.append(hu[label == KIDNEY])
        tumor.append(hu[label == TUMOR])
        for plane in hu[(label > 0).any((1, 2))]:
            patches = list(even_patches(plane))
            if patches:
                noise.append(np.median([patch.std() for patch in patches]))
                spectra.append(spectrum(patches, volume.spacing[1:]))
    return Look(np.concatenate(kidney), np.concatenate(tumor), np.array(noise), np.array(spectra))


def even_patches(plane: np.ndarray) -> Iterator[np.ndarray]:
    """(PATCH, PATCH) HU of a slice (H, W), a plane taken out of each."""
    windows = np.lib.stride_tricks.sliding_window_view(plane, (PATCH, PATCH))[:: PATCH // 2, :: PATCH // 2]
    windows = windows.reshape(-1, PATCH, PATCH)
    windows = windows[(windows.min((1, 2)) > LEAST_HU) & (windows.max((1, 2)) < MOST_HU)]
    y, x = np.mgrid[-1 : 1 : PATCH * 1j, -1 : 1 : PATCH * 1j]
    base = np.stack([np.ones(PATCH**2), y.ravel(), x.ravel()])
    flat = windows.reshape(len(windows), PATCH**2)
    flat = flat - flat @ np.linalg.pinv(base) @ base
    evenest = np.argsort(flat.std(1))[: int(np.ceil(EVENEST * len(flat)))]
    yield from flat[evenest].reshape(-1, PATCH, PATCH)


def spectrum(patches: list[np.ndarray], pixel: tuple[float, float]) -> np.ndarray:
    """(F,) share of the power in each bin of `FREQUENCIES`; `pixel`: mm a row and a column."""
    window = np.outer(np.hanning(PATCH), np.hanning(PATCH))
    power = np.mean([np.abs(fft.fft2(patch * window)) ** 2 for patch in patches], axis=0)
    rows, columns = (fft.fftfreq(PATCH, mm) for mm in pixel)
    radius = np.hypot(rows[:, None], columns[None])
    return np.histogram(radius, FREQUENCIES, weights=power / power.sum())[0]


def draw(looks: dict[str, Look]) -> Figure:
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    kidney, tumor, noise = figure.subplots(1, 3)
    middles = (FREQUENCIES[1:] + FREQUENCIES[:-1]) / 2
    for name, look in looks.items():
        style = {"color": COLORS[name], "label": name}
        for axes, hu in ((kidney, look.kidney), (tumor, look.tumor)):
            axes.hist(hu, HU_BINS, density=True, histtype="step", linewidth=1.4, **style)
        low, middle, high = np.percentile(look.spectra, [10, 50, 90], axis=0)
        noise.plot(middles, middle, linewidth=1.4, **style)
        noise.fill_between(middles, low, high, color=COLORS[name], alpha=0.15, linewidth=0)
    kidney.set(title="kidney", xlabel="HU, clipped to 0 .. 255", ylabel="density")
    tumor.set(title="tumor", xlabel="HU, clipped to 0 .. 255")
    noise.set(title="noise in even tissue", xlabel="cycles per mm", ylabel="share of power")
    noise.legend(frameon=False)
    for axes in (kidney, tumor, noise):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def say(name: str, look: Look) -> None:
    low = look.spectra[:, FREQUENCIES[1:] <= LOW].sum(1)
    print(
        f"{name}: {len(look.noise)} slices; kidney {look.kidney.mean():.0f} HU, sd {look.kidney.std():.0f};"
        f" tumor {look.tumor.mean():.0f} HU, sd {look.tumor.std():.0f}; noise {np.median(look.noise):.1f} HU"
        f" ({np.percentile(look.noise, 10):.1f} to {np.percentile(look.noise, 90):.1f}),"
        f" {np.median(low):.2f} of its power below {LOW}/mm"
    )


if __name__ == "__main__":
    looks = {name: look_at(Path(folder)) for name, folder in zip(COLORS, sys.argv[1:3], strict=True)}
    for name, look in looks.items():
        say(name, look)
    draw(looks).savefig(PICTURE, metadata={"Date": None})
