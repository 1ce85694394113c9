"""How a slice of a drawn patient looks: organs painted one over the other, each with the labels it leaves.

Organs are ellipsoids in mm, roughened by the patient's textures. An edge covers a pixel by its share, so that
outlines stay smooth at any resolution; labels say what lies at the pixel's center. Cost: some 8 ms a slice of
256x256, since an organ touches only the window around it.
"""

import math

import numpy as np

from kitsam.ct.labels import CYST, KIDNEY, TUMOR
from kitsam.phantom.anatomy import Ellipsoid, Kidney, Lesion, Patient, Phase

AIR, LUNG, FAT, FLUID, MUSCLE = -1000.0, -850.0, -102.0, 8.0, 58.0  # HU
MIDDLE = -6.0  # y of the body's middle: kidneys lie behind it
WHOLE = (slice(None), slice(None))


def draw_slice(patient: Patient, z: float, y: np.ndarray, x: np.ndarray, pixel: float) -> tuple[np.ndarray, np.ndarray]:
    """HU without noise, (H, W) float32, and labels, (H, W) uint8, where rows lie at `y` and columns at `x` mm."""
    canvas = Canvas(patient, z, y, x, pixel)
    cavity = _paint_body(canvas, patient)
    _paint_bowels(canvas, patient, cavity)
    _paint_upper_organs(canvas, patient, cavity)
    _paint_fat_around_kidneys(canvas, patient, cavity)
    _paint_muscles_and_spine(canvas, patient)
    _paint_vessels(canvas, patient)
    for kidney in patient.kidneys:
        _paint_kidney(canvas, kidney, patient.phase)
    for tumor in patient.tumors:
        _paint_tumor(canvas, tumor, patient.phase, cavity)
    for cyst in patient.cysts:
        _paint_cyst(canvas, cyst, cavity)
    return canvas.hu, canvas.label


class Canvas:
    """One slice while it is painted."""

    def __init__(self, patient: Patient, z: float, y: np.ndarray, x: np.ndarray, pixel: float):
        self.z, self.y, self.x, self.pixel = z, y, x, pixel
        self.hu = np.full((len(y), len(x)), AIR, np.float32)
        self.label = np.zeros((len(y), len(x)), np.uint8)
        self.coarse = patient.coarse.at(z, y, x)
        self.fine = patient.fine.at(z, y, x)

    def window(self, y: float, x: float, reach: float) -> tuple[slice, slice]:
        rows = np.searchsorted(self.y, (y - reach, y + reach))
        columns = np.searchsorted(self.x, (x - reach, x + reach))
        return slice(*rows.tolist()), slice(*columns.tolist())

    def axes(self, window: tuple[slice, slice], y: float, x: float) -> tuple[np.ndarray, np.ndarray]:
        """Distances in mm from (y, x) down (h, 1) and to the right (1, w)."""
        return self.y[window[0], None] - y, self.x[None, window[1]] - x

    def ellipse(self, shape: Ellipsoid) -> tuple[tuple[slice, slice], np.ndarray] | None:
        """Window and distance from the outline in mm, negative inside; None where the slice misses the shape."""
        section = 1 - ((self.z - shape.z) / shape.rz) ** 2
        if section <= 0:
            return None
        size = math.sqrt(section)
        window = self.window(shape.y, shape.x, max(shape.ry, shape.rx) * size + 4 + self.pixel)
        dy, dx = self.axes(window, shape.y, shape.x)
        cos, sin = math.cos(shape.turn), math.sin(shape.turn)
        along, across = (cos * dx + sin * dy) / shape.rx, (cos * dy - sin * dx) / shape.ry
        return window, (np.sqrt(along**2 + across**2) - size) * min(shape.ry, shape.rx)

    def paint(self, window: tuple[slice, slice], distance: np.ndarray, hu: np.ndarray | float) -> None:
        """Cover what lies inside; a pixel on the outline gets its share of both sides."""
        share = np.clip(0.5 - distance / self.pixel, 0, 1)
        self.hu[window] += share * (hu - self.hu[window])


def _paint_body(canvas: Canvas, patient: Patient) -> np.ndarray:
    """Skin, fat, muscle wall with ribs, and couch. Returns the distance from the cavity's outline, negative inside."""
    y, x = canvas.y[:, None], canvas.x[None]
    swell = 1 + 0.03 * math.sin(canvas.z / 70)

    def oval(width: float, depth: float, middle: float) -> np.ndarray:
        radius = (np.abs(x / width) ** 2.3 + np.abs((y - middle) / depth) ** 2.3) ** (1 / 2.3)
        return (radius - 1) * depth + 1.5 * canvas.coarse

    skin = oval(patient.width * swell, patient.depth * swell, MIDDLE)
    wall = oval(patient.width - patient.fat, patient.depth - 0.9 * patient.fat, MIDDLE)
    cavity = oval(patient.width - patient.fat - 15, patient.depth - 0.9 * patient.fat - 19, MIDDLE - 5)
    couch = np.abs(np.hypot(x, y - MIDDLE + 360 - patient.depth * swell) - 368) - 1.5
    canvas.paint(WHOLE, couch, -20)
    canvas.paint(WHOLE, skin, 15)
    canvas.paint(WHOLE, skin + 2, FAT + 8 * canvas.coarse)
    canvas.paint(WHOLE, wall, MUSCLE + 4 * canvas.fine)
    # Thin planes of fat between the layers of muscle.
    canvas.paint(WHOLE, np.abs(cavity - 7 + 2 * canvas.coarse) - 0.6, -40)
    canvas.paint(WHOLE, cavity, FAT - 4 + 6 * canvas.fine)
    canvas.paint(WHOLE, np.maximum(cavity + 4, 6 - 3 * canvas.fine), 50)  # vessels of the mesentery
    _paint_ribs(canvas, patient)
    return cavity


def _paint_ribs(canvas: Canvas, patient: Patient) -> None:
    width, depth = patient.width - patient.fat - 7, patient.depth - 0.9 * patient.fat - 9
    for number in range(5):
        # A rib runs down and forward, so that a slice cuts several at different angles.
        angle = 0.9 - (canvas.z + 125 - 26 * number) / 75
        if not -0.7 < angle < 1.05:
            continue
        for side in (-1, 1):
            middle = MIDDLE + depth * math.sin(angle), side * width * math.cos(angle)
            tangent = math.atan2(depth * math.cos(angle), -side * width * math.sin(angle))
            for shrink, hu in ((1, 620), (0.55, 260)):
                found = canvas.ellipse(Ellipsoid(canvas.z, *middle, 1, 4.2 * shrink, 10 * shrink, tangent))
                canvas.paint(*found, hu)


def _paint_upper_organs(canvas: Canvas, patient: Patient, cavity: np.ndarray) -> None:
    phase = patient.phase
    room = cavity
    if canvas.z < -70:  # the lungs come down beside the diaphragm's dome
        dy, dx = canvas.axes(WHOLE, -24, 0)
        dome = np.hypot(dy, dx * 0.73) - 150 * math.sqrt(max(0.1, 1 - ((canvas.z - 40) / 200) ** 2))
        canvas.paint(WHOLE, np.maximum(cavity + 1, -dome - 4), LUNG + 15 * canvas.fine)
        room = np.maximum(cavity, dome)

    def organ(shape: Ellipsoid, hu: float, roughness: float = 2.0, grain: float = 4.0) -> None:
        found = canvas.ellipse(shape)
        if found:
            window, distance = found
            distance = np.maximum(distance + roughness * canvas.coarse[window], room[window] + 2)
            canvas.paint(window, distance, hu + grain * canvas.fine[window])

    full, large = patient.stomach, patient.liver
    organ(Ellipsoid(-95, -50, 55, 62, 34 * full, 46 * full, 0.3), 62, 1)  # stomach: wall, content, gas
    organ(Ellipsoid(-95, -50, 55, 58, 34 * full - 4, 46 * full - 4, 0.3), 28, 1, 10)
    organ(Ellipsoid(-95, -50 - 16 * full, 52, 40, 13 * full, 26 * full, 0.15), -920, 1)
    organ(
        Ellipsoid(-88, 34, 116, 62 * patient.spleen, 52 * patient.spleen, 27 * patient.spleen, -0.25), phase.spleen, 2.5
    )
    organ(Ellipsoid(-112, -12, -88, 132 * large, 82, 74 * large, 0.2), phase.liver, 3)
    organ(Ellipsoid(-112, -62, 0, 70 * large, 28 * large, 72 * large, -0.1), phase.liver, 3)
    for vein_z, y, x, turn in (
        (-85, -20, -75, 0.5),
        (-100, -35, -60, -0.4),
        (-65, -8, -95, 0.9),
        (-110, -10, -110, 0.1),
    ):
        organ(Ellipsoid(vein_z, y, x, 22, 3.5, 26, turn), phase.vein + 15, 3)
    organ(Ellipsoid(-30, -48, -52, 34, 13, 19, 0.5), FLUID + 4, 1, 2)  # gallbladder
    organ(Ellipsoid(-38, -28, 28, 20, 8, 48, -0.25), 80, 2, 14)  # pancreas
    organ(Ellipsoid(-18, -22, -30, 30, 13, 15), 80, 2, 14)


def _paint_bowels(canvas: Canvas, patient: Patient, cavity: np.ndarray) -> None:
    for bowel in patient.bowels:
        found = canvas.ellipse(bowel.shape)
        if not found:
            continue
        window, distance = found
        distance = np.maximum(distance + 1.5 * canvas.coarse[window], cavity[window] + 3)
        content = bowel.content + (70 * np.minimum(canvas.fine[window], 0) if bowel.stool else 6 * canvas.fine[window])
        canvas.paint(window, distance, 75)
        canvas.paint(window, distance + 2.5, content)
        above = canvas.y[window[0], None] - bowel.gas
        if bowel.stool:
            above = above + 6 * canvas.fine[window]
        canvas.paint(window, np.maximum(distance + 2.5, above), -930)


def _paint_fat_around_kidneys(canvas: Canvas, patient: Patient, cavity: np.ndarray) -> None:
    for kidney in patient.kidneys:
        y, x = kidney.center_at(canvas.z)
        axes = kidney.rz + 26, kidney.ry + 13, kidney.rx + 12
        found = canvas.ellipse(Ellipsoid(kidney.z, y, x - 4 * kidney.side, *axes, kidney.side * kidney.turn))
        if found:
            window, distance = found
            canvas.paint(window, np.maximum(distance, cavity[window] + 1), FAT - 6 + 7 * canvas.fine[window])


def _paint_muscles_and_spine(canvas: Canvas, patient: Patient) -> None:
    z = canvas.z
    muscle = MUSCLE + 5 * canvas.fine

    def oval(
        y: float, x: float, ry: float, rx: float, hu: np.ndarray | float, turn: float = 0.0, rough: float = 1.0
    ) -> None:
        window, distance = canvas.ellipse(Ellipsoid(z, y, x, 1, ry, rx, turn))
        canvas.paint(window, distance + rough * canvas.coarse[window], hu[window] if isinstance(hu, np.ndarray) else hu)

    grown = min(max((z + 70) / 150, 0.1), 1)
    for side in (-1, 1):
        oval(47 - 4 * grown, side * (27 + 12 * grown), 8 + 14 * grown, 8 + 9 * grown, muscle, -0.3 * side)  # psoas
        oval(70, side * 66, 8, 21, muscle, -0.25 * side)  # quadratus lumborum
        oval(84, side * 31, 21, 27, muscle)  # erector spinae
        if z > 95:  # iliac crest
            oval(46, side * 108, 7, min(30.0, z - 85), 420, side * 0.9, 0.5)
            oval(46, side * 108, 4, min(27.0, z - 88), patient.bone, side * 0.9, 0.5)
    level = (z - patient.vertebra) % 34.0
    if level < 6:
        oval(41, 0, 17, 23, 85)  # disc
    else:
        spongy = patient.bone + 25 * canvas.fine
        oval(41, 0, 17.5, 23, 480, rough=0.6)
        oval(41, 0, 15.5, 21, spongy, rough=0.6)
    if 6 <= level < 22:  # pedicles
        for side in (-1, 1):
            oval(60, side * 14, 8, 4.5, 480)
    if 10 <= level < 20:  # transverse processes
        for side in (-1, 1):
            oval(64, side * 30, 3.4, 17, 400, 0.2 * side)
    for side in (-1, 1):  # laminae and facets
        oval(72, side * 9, 4, 11, 430, 0.7 * -side)
        oval(68, side * 19, 5.5, 6, 480)
    if level > 8:
        oval(87, 0, 13, 3.4, 420)  # spinous process
    oval(63, 0, 8.5, 10.5, 28, rough=0)  # canal


def _paint_vessels(canvas: Canvas, patient: Patient) -> None:
    phase = patient.phase
    aorta, cava = (14.0, 12.0), (14.0, -20.0)  # y, x
    window, distance = canvas.ellipse(Ellipsoid(canvas.z, *cava, 1, 9, 12.5))
    canvas.paint(window, distance + 0.8 * canvas.coarse[window], phase.vein + 4 * canvas.fine[window])
    canvas.paint(*canvas.ellipse(Ellipsoid(canvas.z, *aorta, 1, 10.5, 10.5)), phase.aorta)
    canvas.paint(*canvas.ellipse(Ellipsoid(canvas.z, -12, 6, 1, 3.5, 3.5)), phase.aorta)  # superior mesenteric artery
    canvas.paint(*canvas.ellipse(Ellipsoid(canvas.z, -13, -7, 1, 5.5, 5.5)), phase.vein)  # and vein
    for kidney in patient.kidneys:
        hilum = kidney.point(kidney.z, math.pi, 0.6)[1:]
        bend = (hilum[0] - 14, 0.6 * hilum[1])
        for start, end in ((hilum, bend), (bend, cava if kidney.side < 0 else (2.0, -12.0))):
            _paint_tube(canvas, kidney.z + 4, start, end, 3.8, phase.vein)
        _paint_tube(canvas, kidney.z - 6, hilum, aorta, 2.6, phase.aorta)


def _paint_tube(
    canvas: Canvas, z: float, start: tuple[float, float], end: tuple[float, float], radius: float, hu: float
) -> None:
    """A straight vessel that lies in one slice or two."""
    if abs(canvas.z - z) >= radius:
        return
    reach = math.dist(start, end) / 2 + radius + 2
    window = canvas.window((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, reach)
    dy, dx = canvas.axes(window, *start)
    way_y, way_x = end[0] - start[0], end[1] - start[1]
    share = np.clip((dy * way_y + dx * way_x) / (way_y**2 + way_x**2), 0, 1)
    distance = np.hypot(dy - share * way_y, dx - share * way_x) - math.sqrt(radius**2 - (canvas.z - z) ** 2)
    canvas.paint(window, distance, hu)


def _paint_kidney(canvas: Canvas, kidney: Kidney, phase: Phase) -> None:
    """A bean: an ellipsoid whose middle opens to the hilum, filled there with fat, vessels and the renal pelvis."""
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
    """Round but lobulated, uneven, with a rim that takes up contrast; a large one is dead in the middle."""
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
        dead = np.clip((-distance - 0.3 * tumor.radius + 8 * canvas.coarse[window]) / 4, 0, 1)
        hu = hu + dead * (22 + 6 * fine - hu)
    canvas.paint(window, np.where(canvas.label[window] == KIDNEY, 9, distance - 2.5), FAT)
    canvas.paint(window, distance, hu)
    canvas.label[window][distance < 0] = TUMOR


def _paint_cyst(canvas: Canvas, cyst: Lesion, cavity: np.ndarray) -> None:
    found = canvas.ellipse(Ellipsoid(cyst.z, cyst.y, cyst.x, cyst.radius, cyst.radius, cyst.radius))
    if not found:
        return
    window, distance = found
    distance = np.maximum(distance, cavity[window] + 2)
    distance = np.where(canvas.label[window] == TUMOR, 9, distance)
    canvas.paint(window, distance, cyst.hu)
    canvas.label[window][distance < 0] = CYST
