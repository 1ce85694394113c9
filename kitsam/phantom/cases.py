"""`kitsam phantom`: a data set of drawn abdomens in the KiTS layout, for trials without a download.

Every case has kidneys and a tumor, half have cysts; sizes, places and frequencies follow KiTS23 (`anatomy.py` draws
the patients, `painting.py` their slices). A case depends on the seed and its number alone, down to the bytes of its
files, whatever the number of cases; `size` and `slices` only change the resolution at which the same patient is drawn.
"""

import gzip
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from kitsam.ct.volume import UNREADABLE, canonical_affine
from kitsam.phantom.anatomy import draw_patient
from kitsam.phantom.config import PhantomConfig
from kitsam.phantom.painting import draw_slice
from kitsam.system.console import progress, say
from kitsam.system.errors import OptionError
from kitsam.system.files import complete_or_absent

USUAL_SPACINGS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)  # mm between slices
USUAL_EXTENT = (180.0, 260.0)  # mm from head to feet; the kidneys take some 110
OTHER_EXTENT = 180.0  # mm, where no usual spacing gives a usual extent
FIELD_OF_VIEW = 400.0  # mm
NOISE = 14.0  # HU
BLUR = 0.8  # mm
MARK = "kitsam phantom"  # in the header's description


def run(config: PhantomConfig) -> int:
    names = [f"case_{index:05d}" for index in range(config.cases)]
    _check(config, names)

    def write_case(index: int) -> None:
        image, label, spacing = make_case(index, config.size, config.slices, config.seed)
        for name, voxels in (("imaging", image), ("segmentation", label)):
            _write(
                config.out / names[index] / f"{name}.nii.gz",
                voxels,
                spacing,
                f"{MARK}, seed {config.seed}, {names[index]}",
            )

    with ThreadPoolExecutor(os.cpu_count()) as threads, progress("Drawing", config.cases, "cases") as tick:
        for _ in threads.map(write_case, range(config.cases)):
            tick()
    say(f"Wrote {config.cases} cases of {config.slices} slices of {config.size}x{config.size} to {config.out}")
    return 0


def make_case(
    index: int, size: int, slices: int, seed: int
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Draw one case: HU, (S, H, W) int16; labels, (S, H, W) uint8; mm between slices, rows and columns."""
    rng = np.random.default_rng([seed, index])
    slice_spacing = _slice_spacing(slices, rng.random())
    pixel = round(FIELD_OF_VIEW * rng.uniform(0.93, 1.07) / size, 4)
    middle = rng.uniform(-0.06, 0.04) * slices * slice_spacing
    sharpness, noise = BLUR * rng.uniform(0.7, 1.3) / pixel, NOISE * rng.uniform(0.7, 1.3)
    patient = draw_patient(rng, max(slice_spacing, pixel))
    z = (np.arange(slices) - (slices - 1) / 2) * slice_spacing + middle
    center = ((np.arange(size) - (size - 1) / 2) * pixel).astype(np.float32)
    image = np.empty((slices, size, size), np.int16)
    label = np.empty((slices, size, size), np.uint8)
    for index, depth in enumerate(z):
        breath = rng.normal(0, 0.4, 2).astype(np.float32)
        hu, label[index] = draw_slice(patient, float(depth), center + breath[0], center + breath[1], pixel)
        hu = gaussian_filter(hu, sharpness)
        hu += rng.normal(0, 1.5) + noise * rng.normal(1, 0.05) * rng.standard_normal(hu.shape, dtype=np.float32)
        image[index] = np.rint(hu).clip(-1024, 3071)
    return image, label, (slice_spacing, pixel, pixel)


def _slice_spacing(slices: int, chance: float) -> float:
    """mm; `chance`: 0..1, which of the spacings that give a usual extent."""
    low, high = USUAL_EXTENT
    spacings = [spacing for spacing in USUAL_SPACINGS if low <= slices * spacing <= high]
    return spacings[int(chance * len(spacings))] if spacings else round(OTHER_EXTENT / slices, 3)


def _check(config: PhantomConfig, names: Sequence[str]) -> None:
    """Refuse a folder with scans that are not ours to overwrite, or with other cases than the new ones."""
    if config.out.exists() and not config.out.is_dir():
        raise OptionError(f"OUT: not a folder: {config.out}")
    for entry in sorted(config.out.iterdir()) if config.out.exists() else ():
        if entry.name.startswith("."):
            continue  # such as macOS puts into every folder
        if entry.name not in names:
            raise OptionError(
                f"OUT: {config.out} holds {entry.name}, which is not one of the cases to make; name another folder"
            )
        for path in entry.glob("*.nii*"):
            if not _is_phantom(path):
                raise OptionError(f"OUT: {path} was not made by `kitsam phantom`; name another folder")


def _is_phantom(path: Path) -> bool:
    try:
        description = nib.load(path).header["descrip"].item()
    except UNREADABLE:
        return False
    return description.startswith(MARK.encode())


def _write(path: Path, voxels: np.ndarray, spacing: tuple[float, float, float], description: str) -> None:
    """Write voxels (S, H, W) as KiTS does."""
    image = nib.Nifti1Image(voxels, canonical_affine(spacing))
    image.header["descrip"] = description
    image.header.set_xyzt_units("mm")
    # Level 1: CT noise hardly compresses further, at several times the cost. No time stamp: a case has the same bytes
    # at any time.
    with (
        complete_or_absent(path) as temporary,
        open(temporary, "wb") as file,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as stream,
    ):
        image.to_stream(stream)
