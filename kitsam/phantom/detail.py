"""What makes fat, liver and muscle look like tissue: vessels, strands and streaks of fat, from random fields.

A vessel runs where two smooth fields are both 0, a sheet of connective tissue where one is: these are curves and
surfaces in space, so that they go on from slice to slice. Cost: some 15 ms a slice of 512x512.
"""

from dataclasses import dataclass

import numpy as np

from kitsam.phantom.anatomy import Patient, Texture
from kitsam.phantom.canvas import FAT, WHOLE, Canvas

FAT_RANGE = (-135.0, -72.0)  # HU of pixels that are fat alone
LIVER_RANGE = 14.0  # HU about the liver's, its texture included
MUSCLE_RANGE = (38.0, 76.0)  # HU
STRAND = 55.0  # HU above fat, of a sheet thinner than a pixel


@dataclass(frozen=True)
class Fields:
    """Random fields of a patient, beside those that shape the organs."""

    first: Texture
    second: Texture
    finest: Texture


def draw_fields(rng: np.random.Generator) -> Fields:
    return Fields(Texture(rng, 10.0), Texture(rng, 13.0), Texture(rng, 2.8))


class Detail:
    """The fields in one slice: `finest`, (H, W), and the distance from the nearest vessel's axis and sheet in mm."""

    def __init__(self, fields: Fields, canvas: Canvas) -> None:
        first, second = (field.at(canvas.z, canvas.y, canvas.x) for field in (fields.first, fields.second))
        # A field of a lattice of d mm rises by about 1 / d a mm where it is 0.
        self.axis = np.hypot(first * fields.first.scale, second * fields.second.scale)  # (H, W)
        self.sheet = np.abs(first) * fields.first.scale  # (H, W)
        self.finest = fields.finest.at(canvas.z, canvas.y, canvas.x)


def paint_liver_vessels(canvas: Canvas, detail: Detail, patient: Patient) -> None:
    """Veins wherever the liver is; to call before organs of its HU are painted."""
    liver = np.abs(canvas.hu - patient.phase.liver) < LIVER_RANGE
    radius = 1.6 + 1.3 * canvas.coarse
    distance = np.where(liver, detail.axis - radius, canvas.pixel)
    canvas.paint(WHOLE, distance, max(patient.phase.vein, patient.phase.liver - 15) + 12)


def paint_strands(canvas: Canvas, detail: Detail, patient: Patient, cavity: np.ndarray) -> None:
    """Vessels and sheets in the fat inside the body, few under the skin; `cavity` as in `organs.py`."""
    low, high = FAT_RANGE
    fat = (canvas.hu > low) & (canvas.hu < high)
    inner = fat & (cavity < 1)
    radius = 1.4 + 1.0 * canvas.coarse
    canvas.paint(WHOLE, np.where(inner, detail.axis - radius, canvas.pixel), 0.6 * patient.phase.vein + 20)
    thickness = 0.45 + 0.5 * canvas.coarse  # there are none where it is negative
    share = np.clip(1.2 - detail.sheet / np.maximum(thickness, 1e-3), 0, 1) * fat
    canvas.hu += share * STRAND * np.where(cavity < 1, 1, 0.7)
    canvas.hu += fat * (5 * detail.finest + 7 * np.maximum(canvas.fine, 0) * (cavity < 1))


def paint_muscle_fat(canvas: Canvas, detail: Detail, cavity: np.ndarray) -> None:
    """Streaks of fat in the muscles, most toward the back."""
    low, high = MUSCLE_RANGE
    muscle = (canvas.hu > low) & (canvas.hu < high) & ((cavity > -4) | (canvas.y[:, None] > 38))
    back = np.clip((canvas.y[:, None] - 50) / 30, 0.15, 1)
    streaks = np.clip(detail.finest + 0.8 * canvas.fine - 0.6, 0, 1.5)
    canvas.hu += muscle * (4 * detail.finest - 32 * back * streaks)


def paint_fat_around(canvas: Canvas, window: tuple[slice, slice], distance: np.ndarray) -> None:
    """The bed of fat in which kidneys lie, with the fascia around it; `distance`, (h, w), from them.

    It is thin in places: there a kidney touches its neighbors.
    """
    thickness = np.clip(4 + 5 * canvas.coarse[window], 0.4, 11)
    bed = distance - thickness
    canvas.paint(window, bed, FAT - 4)
    fascia = np.clip(1 - np.abs(bed) / 0.9, 0, 1) * (canvas.hu[window] < FAT_RANGE[1])
    canvas.hu[window] += fascia * 60
