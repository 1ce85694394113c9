"""One CT over one label map: HU as a scanner would give them for a patient with these kidneys, tumors and cysts.

The organs around them are those of the drawn phantom, fitted to the label map (`fitting.py`), with more texture
(`detail.py`); what lies inside the labels is in `tissue.py`. A slice's kidneys and lesions are the mean of planes at
most `PLANE_DISTANCE` apart over 5 mm; then comes the blur of a scanner and noise of its spectrum (`noise.py`). The
case's name and the seed decide everything. Cost: some 0.2 s a slice of 512x512; the label map, the CT as int16 and
0.2 GB in memory.
"""

import math
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

from kitsam.phantom.canvas import Canvas
from kitsam.phantom.detail import (
    Detail,
    Fields,
    draw_fields,
    paint_fat_around,
    paint_liver_vessels,
    paint_muscle_fat,
    paint_strands,
)
from kitsam.phantom.fitting import Fit, fit_patient
from kitsam.phantom.noise import draw_noise, noise_slices
from kitsam.phantom.organs import (
    MIDDLE,
    paint_body,
    paint_bowels,
    paint_muscles_and_spine,
    paint_upper_organs,
    paint_vessels,
)
from kitsam.phantom.outlines import Frame, Section, between, find_frame, find_section
from kitsam.phantom.tissue import Lesions, draw_lesions, paint_labels
from kitsam.system.seeds import generator

PLANE_DISTANCE, MOST_PLANES = 2.0, 3  # mm; of a slice of 5 mm three planes tell how far an outline moves in it
BLUR = (0.45, 0.8)  # mm, standard deviation of the scanner's point spread
LEAST_HU, MOST_HU = -1024, 3071  # of 12 bits
OUTER_NOISE = 0.55  # of the noise in the body's middle, where all rays pass: that far outside


@dataclass(frozen=True)
class Scene:
    """All that planes are painted from."""

    label: np.ndarray  # (S, H, W) uint8
    spacing: tuple[float, float, float]  # mm between slices, rows, columns
    fit: Fit
    fields: Fields
    frame: Frame
    lesions: Lesions
    y: np.ndarray  # (H,) float32, of rows in the patient's mm
    x: np.ndarray  # (W,) float32, of columns

    @property
    def pixel(self) -> float:
        """The patient's mm."""
        return math.sqrt(self.spacing[1] * self.spacing[2]) / self.fit.scale


def render(label: np.ndarray, spacing: tuple[float, float, float], name: str, seed: int = 0) -> np.ndarray:
    """HU, (S, H, W) int16, for labels (S, H, W) uint8 in the canonical frame, not all background.

    `spacing`: mm between slices, rows, columns. The same name and seed give the same HU.
    """
    rng = generator(seed, "rendered patient", name)
    scene = _draw_scene(rng, label, spacing)
    noise, blur = draw_noise(rng, spacing[0]), rng.uniform(*BLUR)
    noises = noise_slices(noise, label.shape, spacing, seed, "rendered noise", name)
    falloff = _noise_falloff(scene)
    image = np.empty(label.shape, np.int16)
    for index, (hu, noisy) in enumerate(zip(_slices(scene), noises)):
        hu = gaussian_filter(hu, (blur / spacing[1], blur / spacing[2]))
        image[index] = np.rint(hu + falloff * noisy).clip(LEAST_HU, MOST_HU)
    return image


def _draw_scene(rng: np.random.Generator, label: np.ndarray, spacing: tuple[float, float, float]) -> Scene:
    fit = fit_patient(rng, label, spacing)
    frame = find_frame(label, spacing[1:])
    lesions = draw_lesions(rng, label, frame, fit.patient.phase, math.prod(spacing) / 1000)
    y, x = (
        ((np.arange(length) * mm - origin) / fit.scale).astype(np.float32)
        for length, mm, origin in zip(label.shape[1:], spacing[1:], fit.origin[1:])
    )
    return Scene(label, spacing, fit, draw_fields(rng), frame, lesions, y, x)


def _noise_falloff(scene: Scene) -> np.ndarray:
    """(H, W) float32: 1 in the body's middle, less toward the air, where rays are stronger."""
    patient = scene.fit.patient
    square = ((scene.y[:, None] - MIDDLE) / patient.depth) ** 2 + (scene.x[None] / patient.width) ** 2
    return OUTER_NOISE + (1 - OUTER_NOISE) * np.exp(-square)


def _slices(scene: Scene) -> Iterator[np.ndarray]:
    """HU of each slice without blur and noise, (H, W) float32: the mean of its planes."""
    shares = plane_shares(scene.spacing[0])

    @lru_cache(maxsize=3)
    def section(index: int) -> Section | None:
        return find_section(scene.label[index][scene.frame.window], scene.spacing[1:])

    for index in range(len(scene.label)):
        hu = np.zeros(scene.label.shape[1:], np.float32)
        plane = _paint_surroundings(scene, index, section(index))
        for share in shares:
            neighbor = index + (1 if share > 0 else -1)
            # Beyond the last slice things go on as in it.
            other = section(neighbor) if 0 <= neighbor < len(scene.label) else section(index)
            hu += _paint_labels(scene, plane, index, between(section(index), other, abs(share), scene.spacing[0]))
        yield hu / len(shares)


def plane_shares(slice_spacing: float) -> list[float]:
    """Where in a slice planes are painted, in slice spacings from its middle."""
    count = min(max(math.ceil(slice_spacing / PLANE_DISTANCE), 1), MOST_PLANES)
    return [(number + 0.5) / count - 0.5 for number in range(count)]


def _paint_surroundings(scene: Scene, index: int, section: Section | None) -> tuple[Canvas, Detail]:
    """The slice without kidneys, organ over organ."""
    patient = scene.fit.patient
    z = (index * scene.spacing[0] - scene.fit.origin[0]) / scene.fit.scale
    canvas = Canvas(patient, z, scene.y, scene.x, scene.pixel)
    detail = Detail(scene.fields, canvas)
    cavity = paint_body(canvas, patient)
    paint_bowels(canvas, patient, cavity)
    paint_upper_organs(canvas, patient, cavity)
    paint_liver_vessels(canvas, detail, patient)
    if section:
        paint_fat_around(canvas, scene.frame.window, section.hull / scene.fit.scale)
    paint_muscles_and_spine(canvas, patient)
    paint_muscle_fat(canvas, detail, cavity)
    paint_strands(canvas, detail, patient, cavity)
    paint_vessels(canvas, patient)
    return canvas, detail


def _paint_labels(scene: Scene, plane: tuple[Canvas, Detail], index: int, section: Section | None) -> np.ndarray:
    """HU of one plane of the slice, (H, W) float32: kidneys and lesions over what surrounds them."""
    canvas, detail = plane
    if section is None:
        return canvas.hu
    canvas = copy(canvas)
    canvas.hu = canvas.hu.copy()
    section = Section(*(distance / scene.fit.scale for distance in section))
    paint_labels(canvas, detail, scene.fit.patient, scene.lesions, index, scene.frame, section)
    return canvas.hu
