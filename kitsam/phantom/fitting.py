"""A patient whose kidneys are those of a label map.

The drawn patient (`anatomy.py`) is scaled and moved so that his kidneys lie where the label map's do, and his body
wall is widened until it holds all labels. So liver, spleen, bowel, spine and vessels come to lie about the real kidneys
as they lie about drawn ones. What the labels do not tell (the spine of a patient with one kidney, organs that a tumor
has moved away) stays where it usually is.
"""

from dataclasses import dataclass, replace

import numpy as np

from kitsam.ct.labels import BACKGROUND, KIDNEY
from kitsam.phantom.anatomy import Bowel, Kidney, Patient, draw_bowels, draw_patient
from kitsam.phantom.organs import MIDDLE
from kitsam.phantom.phases import draw_phase

STEP = 2  # every second row and column says where labels lie
USUAL_HALF_DISTANCE, USUAL_Y = 74.0, 34.0  # mm, of drawn kidneys from the middle and behind the origin
LEAST_SCALE, MOST_SCALE = 0.82, 1.2
LEAST_SHARE = 0.1  # of the kidneys' voxels, with which a side has one
WALL, BACK_WALL = 15.0, 19.0  # mm of muscle around the cavity, as `organs.paint_body` draws it
ROUNDNESS = 2.3  # exponent of its outline
FULLEST = 0.93  # of the cavity's half-axes, up to which labels reach
LEAST_WIDTH, MOST_WIDTH = 145.0, 225.0  # mm, of the body's half-axis
COLLAPSED, COLLAPSED_SHARE = (50.0, 95.0), 0.6  # HU, and share of the small bowel's loops
FILLED = (0.8, 0.97)  # share of the image's width that the body fills


@dataclass(frozen=True)
class Fit:
    """A patient and where he lies: position in the patient's mm = (mm in the volume - origin) / scale."""

    patient: Patient
    scale: float
    origin: tuple[float, float, float]  # z, y, x in mm from the first voxel's center


def fit_patient(rng: np.random.Generator, label: np.ndarray, spacing: tuple[float, float, float]) -> Fit:
    """`label`: (S, H, W), not all background; `spacing`: mm between slices, rows, columns."""
    few = label[:, ::STEP, ::STEP]
    drawn = np.argwhere(few != BACKGROUND)
    drawn, kinds = drawn * (1, STEP, STEP) * np.array(spacing), few[tuple(drawn.T)]
    middle = (label.shape[2] - 1) / 2 * spacing[2]
    kidneys = _sides(drawn[kinds == KIDNEY], middle) or _sides(drawn, middle)
    centers = {side: (part.min(axis=0) + part.max(axis=0)) / 2 for side, part in kidneys.items()}
    axis = (centers[1][2] + centers[-1][2]) / 2 if len(centers) == 2 else middle
    half = np.mean([abs(center[2] - axis) for center in centers.values()])
    scale = float(np.clip(half / USUAL_HALF_DISTANCE, LEAST_SCALE, MOST_SCALE))
    z, y, _ = np.mean(list(centers.values()), axis=0)
    origin = (float(z), float(y - USUAL_Y * scale), float(axis))
    patient = replace(
        draw_patient(rng, max(spacing)),
        phase=draw_phase(rng),
        kidneys=tuple(_kidney(side, (part - origin) / scale) for side, part in kidneys.items()),
        tumors=(),
        cysts=(),
        bowels=_crowded_bowels(rng),
        skin=rng.uniform(30, 90),
        couch=rng.uniform(-60, 200),
        rib_end=rng.uniform(-0.2, 0.6),
    )
    room = min(axis, label.shape[2] * spacing[2] - axis) / scale
    return Fit(_with_body(rng, patient, (drawn - origin) / scale, room), scale, origin)


def _sides(points: np.ndarray, middle: float) -> dict[int, np.ndarray]:
    """Points (N, 3) of each side that has its share of them: -1, the patient's right, and 1, his left."""
    parts = {side: points[(points[:, 2] - middle) * side >= 0] for side in (-1, 1)}
    return {side: part for side, part in parts.items() if len(part) and len(part) >= LEAST_SHARE * len(points)}


def _kidney(side: int, points: np.ndarray) -> Kidney:
    """Where the vessels find a kidney with these points, (N, 3) mm."""
    z, y, x = (points.min(axis=0) + points.max(axis=0)) / 2
    rz, ry, rx = np.maximum((points.max(axis=0) - points.min(axis=0)) / 2, 5.0)
    return Kidney(z, y, x, side, rz, ry, rx, turn=0.6, lean=0.17, pyramids=0.0)


def _crowded_bowels(rng: np.random.Generator) -> tuple[Bowel, ...]:
    """The drawn phantom's colon with the small bowel of two: loops lie close, and many are collapsed to their wall."""
    loops = [*draw_bowels(rng), *(loop for loop in draw_bowels(rng) if not loop.stool)]
    return tuple(
        replace(loop, content=rng.uniform(*COLLAPSED), gas=-np.inf)
        if not loop.stool and rng.random() < COLLAPSED_SHARE
        else loop
        for loop in loops
    )


def _with_body(rng: np.random.Generator, patient: Patient, points: np.ndarray, room: float) -> Patient:
    """With a body that fills the image as usual and holds the labels, `points` (N, 3) mm; `room`: mm to a side."""
    width = float(np.clip(room * rng.uniform(*FILLED), LEAST_WIDTH, MOST_WIDTH))
    depth = width * rng.uniform(0.66, 0.8)
    fat = rng.uniform(0.04, 0.2) * width
    half_x, half_y = width - fat - WALL, depth - 0.9 * fat - BACK_WALL
    y, x = points[:, 1] - (MIDDLE - 5), points[:, 2]
    reach = (np.abs(x / half_x) ** ROUNDNESS + np.abs(y / half_y) ** ROUNDNESS) ** (1 / ROUNDNESS)
    growth = max(1.0, float(np.percentile(reach, 99.9)) / FULLEST)
    # The spine and its muscles take 100 mm behind the origin.
    half_y = max(half_y * growth, 93.0)
    return replace(patient, width=half_x * growth + fat + WALL, depth=half_y + 0.9 * fat + BACK_WALL, fat=fat)
