"""HU inside the outlines of kidneys, tumors and cysts.

A kidney has a cortex, pyramids between its columns, and a sinus of fat and vessels. Each tumor is of one kind, as
renal masses are on CT: hypo-enhancing and even (papillary), iso-enhancing (hard to see), heterogeneous (clear cell),
or necrotic within a rim. Cysts hold water, a few of them blood or protein.
"""

from dataclasses import dataclass
from enum import Enum

import cc3d
import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter

from kitsam.ct.labels import CYST, TUMOR
from kitsam.phantom.anatomy import Patient, Phase
from kitsam.phantom.canvas import FAT, Canvas
from kitsam.phantom.detail import Detail
from kitsam.phantom.outlines import Frame, Section

CORTEX = 6.5  # mm
PELVIS_DEPTH = 15.0  # mm from the outline, where urine is
PELVIS = 15.0  # HU
LARGE = 30.0  # mL
REACH = 9  # pixels around a lesion that take its HU, for its border's shares


class Kind(Enum):
    EVEN = "hypo-enhancing, even"
    ALIKE = "iso-enhancing"
    MIXED = "heterogeneous"
    NECROTIC = "necrotic"


SMALL_SHARES, LARGE_SHARES = (0.3, 0.25, 0.4, 0.05), (0.15, 0.1, 0.4, 0.35)  # of tumors, in the order of `Kind`
DENSE_CYSTS = 0.1  # share
BORDER = (0.3, 2.5)  # mm, standard deviation of how far tumor and kidney grow into each other
# mm, standard deviation of a drawn outline from what is seen: of the order of KiTS23's tolerances, 1.0-1.15 mm. Chosen,
# not measured: without it and soft borders a pretrained decoder finds rendered tumors far better than real ones.
KIDNEY_ERROR, LESION_ERROR = 0.6, 1.1


@dataclass(frozen=True)
class Lesions:
    """Each tumor and cyst of a label map and its look. Number 0 is none."""

    numbers: np.ndarray  # (S, h, w) uint16, in the frame
    means: np.ndarray  # (N + 1,) float32 HU
    spread: np.ndarray  # (N + 1,) float32 HU, of patches
    core: np.ndarray  # (N + 1,) float32 mm from the outline, where necrosis begins
    border: float  # mm of the patient, standard deviation of the way from tumor to kidney


def draw_lesions(rng: np.random.Generator, label: np.ndarray, frame: Frame, phase: Phase, voxel_ml: float) -> Lesions:
    """Connected parts of the label map (S, H, W), each with a look of its own."""
    inside = np.ascontiguousarray(label[(slice(None), *frame.window)])
    numbers, count = cc3d.connected_components(np.where(inside >= TUMOR, inside, 0), return_N=True)
    sizes = cc3d.statistics(numbers, no_slice_conversion=True)["voxel_counts"] * voxel_ml
    looks = [(0.0, 0.0, np.inf)]
    first = np.zeros(count + 1, np.uint8)
    first[numbers] = inside
    for number in range(1, count + 1):
        looks.append(_cyst(rng) if first[number] == CYST else _tumor(rng, phase, float(sizes[number])))
    means, spread, core = (np.array(column, np.float32) for column in zip(*looks))
    return Lesions(numbers.astype(np.uint16), means, spread, core, rng.uniform(*BORDER))


def _cyst(rng: np.random.Generator) -> tuple[float, float, float]:
    """Mean, spread and core as in `Lesions`."""
    dense = rng.random() < DENSE_CYSTS
    return rng.uniform(35, 60) if dense else rng.uniform(0, 22), 1.5, np.inf


def _tumor(rng: np.random.Generator, phase: Phase, milliliters: float) -> tuple[float, float, float]:
    """Mean, spread and core as in `Lesions`."""
    kind = list(Kind)[rng.choice(len(Kind), p=LARGE_SHARES if milliliters > LARGE else SMALL_SHARES)]
    radius = (milliliters * 750 / np.pi) ** (1 / 3)
    core = radius * rng.uniform(0.2, 0.45) if kind is Kind.NECROTIC else np.inf
    mean, spread = {
        Kind.EVEN: (min(rng.uniform(35, 68), 0.6 * phase.medulla), rng.uniform(3, 8)),
        Kind.ALIKE: ((phase.cortex + phase.medulla) / 2 - rng.uniform(5, 32), rng.uniform(5, 14)),
        Kind.MIXED: (phase.tumor, rng.uniform(0.2, 0.4) * phase.tumor),
        Kind.NECROTIC: (phase.tumor + rng.uniform(0, 20), rng.uniform(0.1, 0.25) * phase.tumor),
    }[kind]
    return mean, spread, core


def paint_labels(
    canvas: Canvas, detail: Detail, patient: Patient, lesions: Lesions, index: int, frame: Frame, section: Section
) -> None:
    """Paint kidneys, tumors and cysts of slice `index`, with distances of `section` in the canvas's mm."""
    window = frame.window
    _paint_sinus(canvas, detail, patient, window, section)
    wave = 0.7 * (canvas.coarse[window] + canvas.fine[window])  # (h, w), of deviation 1
    whole = _share(section.whole + KIDNEY_ERROR * wave, canvas.pixel)
    tumor = _share(section.tumor + LESION_ERROR * wave, canvas.pixel)
    cyst = _share(section.cyst + KIDNEY_ERROR * wave, canvas.pixel)
    kidney, tumor = _grown_together(np.maximum(whole - tumor - cyst, 0), tumor, lesions.border / canvas.pixel)
    total = np.maximum(kidney + tumor + cyst, 1e-6)
    lesion = _lesion_hu(canvas, detail, lesions, index, window, section)
    # A voxel holds its share of each: no rim of kidney around a tumor that borders on fat.
    hu = (kidney * _kidney_hu(canvas, patient.phase, window, section) + (tumor + cyst) * lesion) / total
    canvas.hu[window] += whole * (hu - canvas.hu[window])


def _share(distance: np.ndarray, pixel: float) -> np.ndarray:
    """Of a pixel that lies inside the outline."""
    return np.clip(0.5 - distance / pixel, 0, 1)


def _grown_together(kidney: np.ndarray, tumor: np.ndarray, border: float) -> tuple[np.ndarray, np.ndarray]:
    """Shares (h, w) of kidney and tumor with a soft way from one to the other, sharp to all else; `border`: pixels."""
    if not tumor.any():
        return kidney, tumor
    both = kidney + tumor
    near = gaussian_filter(kidney, border)
    kidney = both * near / np.maximum(near + gaussian_filter(tumor, border), 1e-6)
    return kidney, both - kidney


def _paint_sinus(
    canvas: Canvas, detail: Detail, patient: Patient, window: tuple[slice, slice], section: Section
) -> None:
    canvas.paint(window, section.hull, FAT + 15 + 12 * canvas.fine[window])
    vessel = np.maximum(section.hull, detail.axis[window] - 3.2)
    canvas.paint(window, vessel, patient.phase.vein)
    pelvis = np.maximum(section.hull + PELVIS_DEPTH, 2.5 * canvas.fine[window])
    canvas.paint(window, pelvis, PELVIS)


def _kidney_hu(canvas: Canvas, phase: Phase, window: tuple[slice, slice], section: Section) -> np.ndarray:
    """(h, w): pyramids of medulla below the cortex, parted by its columns."""
    coarse, fine = canvas.coarse[window], canvas.fine[window]
    depth = np.clip((-section.hull - CORTEX - coarse) / 1.5, 0, 1)
    column = np.clip((fine + 0.7) / 0.5, 0, 1)
    return phase.cortex + depth * column * (phase.medulla - phase.cortex) + 8 * fine


def _lesion_hu(
    canvas: Canvas, detail: Detail, lesions: Lesions, index: int, window: tuple[slice, slice], section: Section
) -> np.ndarray:
    """(h, w): of the lesion at each pixel or near it."""
    number = lesions.numbers[index]
    if not number.any():
        return np.zeros(number.shape, np.float32)
    number = np.where(number > 0, number, maximum_filter(number, 2 * REACH + 1))
    coarse, fine, finest = canvas.coarse[window], canvas.fine[window], detail.finest[window]
    patches = np.tanh(1.5 * fine + 0.7 * coarse) + 0.5 * coarse + 0.4 * finest
    hu = lesions.means[number] + lesions.spread[number] * patches
    dead = np.clip((-section.tumor - lesions.core[number] + 7 * coarse + 3 * fine) / 4, 0, 1)
    return hu + dead * (22 + 5 * fine - hu)
