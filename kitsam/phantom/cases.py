"""`kitsam phantom`: a data set of drawn abdomens in the KiTS layout, for trials without a download; with `--labels`, of
CTs rendered over label maps (`label_maps.py`).

Every case has kidneys and a tumor, half have cysts; sizes, places and frequencies follow KiTS23 (`anatomy.py` draws
the patients, `painting.py` their slices). A case depends on the seed and its number alone, down to the bytes of its
files, whatever the number of cases; `size` and `slices` only change the resolution at which the same patient is drawn.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from kitsam.ct.volume import canonical_affine
from kitsam.phantom.anatomy import draw_patient
from kitsam.phantom.config import USUAL_CASES, USUAL_SIZE, USUAL_SLICES, PhantomConfig
from kitsam.phantom.files import check_folder, write_volume
from kitsam.phantom.painting import draw_slice
from kitsam.system.console import progress, say

USUAL_SPACINGS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)  # mm between slices
USUAL_EXTENT = (180.0, 260.0)  # mm from head to feet; the kidneys take some 110
OTHER_EXTENT = 180.0  # mm, where no usual spacing gives a usual extent
FIELD_OF_VIEW = 400.0  # mm
NOISE = 14.0  # HU
BLUR = 0.8  # mm


def run(config: PhantomConfig) -> int:
    if config.labels:
        from kitsam.phantom import label_maps

        return label_maps.run(config)
    cases, size, slices = config.cases or USUAL_CASES, config.size or USUAL_SIZE, config.slices or USUAL_SLICES
    names = [f"case_{index:05d}" for index in range(cases)]
    check_folder(config.out, names)

    def write_case(index: int) -> None:
        image, label, spacing = make_case(index, size, slices, config.seed)
        for file, voxels in (("imaging.nii.gz", image), ("segmentation.nii.gz", label)):
            volume = nib.Nifti1Image(voxels, canonical_affine(spacing))
            write_volume(config.out / names[index] / file, volume, "drawn", config.seed, names[index])

    with ThreadPoolExecutor(os.cpu_count()) as threads, progress("Drawing", cases, "cases") as tick:
        for _ in threads.map(write_case, range(cases)):
            tick()
    say(f"Wrote {cases} cases of {slices} slices of {size}x{size} to {config.out}")
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
