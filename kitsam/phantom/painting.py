"""How a slice of a drawn patient looks: all organs painted one over the other, kidneys and lesions last.

Kidneys, tumors and cysts leave labels, which say what lies at a pixel's center. Cost: some 8 ms a slice of 256x256.
"""

import math

import numpy as np

from kitsam.ct.labels import CYST, KIDNEY, TUMOR
from kitsam.phantom.anatomy import Ellipsoid, Kidney, Lesion, Patient, Phase
from kitsam.phantom.canvas import FAT, FLUID, Canvas
from kitsam.phantom.organs import (
    paint_body,
    paint_bowels,
    paint_fat_around_kidneys,
    paint_muscles_and_spine,
    paint_upper_organs,
    paint_vessels,
)


def draw_slice(patient: Patient, z: float, y: np.ndarray, x: np.ndarray, pixel: float) -> tuple[np.ndarray, np.ndarray]:
    """HU without noise, (H, W) float32, and labels, (H, W) uint8, of the slice at `z` mm.

    Rows lie at `y` mm, (H,), columns at `x` mm, (W,), `pixel` mm apart.
    """
    canvas = Canvas(patient, z, y, x, pixel)
    cavity = paint_body(canvas, patient)
    paint_bowels(canvas, patient, cavity)
    paint_upper_organs(canvas, patient, cavity)
    paint_fat_around_kidneys(canvas, patient, cavity)
    paint_muscles_and_spine(canvas, patient)
    paint_vessels(canvas, patient)
    for kidney in patient.kidneys:
        _paint_kidney(canvas, kidney, patient.phase)
    for tumor in patient.tumors:
        _paint_tumor(canvas, tumor, patient.phase, cavity)
    for cyst in patient.cysts:
        _paint_cyst(canvas, cyst, cavity)
    return canvas.hu, canvas.label


def _paint_kidney(canvas: Canvas, kidney: Kidney, phase: Phase) -> None:
    """A bean: an ellipsoid whose middle opens to the hilum, where it holds fat, vessels and the renal pelvis."""
    size = kidney.section(canvas.z)
    if size == 0:
        return
    center = kidney.center_at(canvas.z)
    window = canvas.window(*center, kidney.rx + 12 + canvas.pixel)
    dy, dx = canvas.axes(window, *center)
    dx = dx * kidney.side
    cos, sin = math.cos(kidney.turn), math.sin(kidney.turn)
    along, across = cos * dx + sin * dy, sin * dx - cos * dy  # from the hilum outward, to the front
    coarse, fine = canvas.coarse[window], canvas.fine[window]
    radius = np.sqrt((along / kidney.rx) ** 2 + (across / kidney.ry) ** 2)
    outline = (radius - size) * kidney.ry + 0.8 * coarse
    middle = max(0.0, 1 - ((canvas.z - kidney.z) / (0.55 * kidney.rz)) ** 2) ** 0.5
    mouth = np.sqrt(((along + 0.75 * kidney.rx) / (0.85 * kidney.rx)) ** 2 + (across / (0.34 * kidney.ry)) ** 2)
    sinus = (mouth - middle) * 0.34 * kidney.ry + 1.8 * fine if middle else np.full_like(outline, 99.0)
    cortex = np.maximum(outline, -sinus)
    canvas.paint(window, cortex, phase.cortex + 4 * fine)
    angle = np.arctan2(across, along + 0.3 * kidney.rx)
    wedges = (np.cos(6 * angle + kidney.pyramids + 0.12 * (canvas.z - kidney.z)) - 0.1) * -5
    medulla = np.maximum(np.maximum(outline + 5.5, wedges), 3 - sinus)
    canvas.paint(window, medulla, phase.medulla + 4 * fine)
    pelvis = np.hypot((along + 0.62 * kidney.rx) / 1.7, across) - 4.5 * middle
    canvas.paint(window, np.maximum(pelvis, sinus + 1), FLUID)
    canvas.label[window][cortex < 0] = KIDNEY


def _paint_tumor(canvas: Canvas, tumor: Lesion, phase: Phase, cavity: np.ndarray) -> None:
    """Round but lobulated, uneven, with a rim that takes up contrast; a large one is necrotic in the middle."""
    reach = tumor.radius * (1 + 3 * tumor.lobulation) + 6
    if abs(canvas.z - tumor.z) > reach:
        return
    window = canvas.window(tumor.y, tumor.x, reach)
    dy, dx = canvas.axes(window, tumor.y, tumor.x)
    fine = canvas.fine[window]
    # Lobes grow with the tumor: small ones take their shape from the finer texture.
    mix = min(max(tumor.radius / 30, 0.2), 1)
    lobes = mix * canvas.coarse[window] + (1 - mix) * fine
    radius = np.sqrt(dy**2 + dx**2 + (canvas.z - tumor.z) ** 2)
    distance = radius - tumor.radius * (1 + tumor.lobulation * np.clip(lobes, -2.5, 2.5))
    spine = np.hypot(dy + tumor.y - 44, (dx + tumor.x) * 0.8) - 25
    distance = np.maximum(distance, np.maximum(cavity[window] + 2, 2 - spine))
    hu = tumor.hu + 16 * fine + np.where(distance > -4, phase.rim, 0)
    if tumor.radius > 20:
        necrosis = np.clip((-distance - 0.3 * tumor.radius + 8 * canvas.coarse[window]) / 4, 0, 1)
        hu = hu + necrosis * (22 + 6 * fine - hu)
    canvas.paint(window, np.where(canvas.label[window] == KIDNEY, 9, distance - 2.5), FAT)
    canvas.paint(window, distance, hu)
    canvas.label[window][distance < 0] = TUMOR


def _paint_cyst(canvas: Canvas, cyst: Lesion, cavity: np.ndarray) -> None:
    """A ball of fluid that does not grow into a tumor."""
    section = canvas.ellipse(Ellipsoid(cyst.z, cyst.y, cyst.x, cyst.radius, cyst.radius, cyst.radius))
    if not section:
        return
    window, distance = section
    distance = np.maximum(distance, cavity[window] + 2)
    distance = np.where(canvas.label[window] == TUMOR, 9, distance)
    canvas.paint(window, distance, cyst.hu)
    canvas.label[window][distance < 0] = CYST
