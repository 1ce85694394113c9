"""The organs of a drawn patient that surround the kidneys, in the order in which they are painted.

Ellipsoids in mm, at places and of sizes that a normal abdomen has, roughened by the patient's textures. They have no
labels: bowel, spleen, liver and vessels have HU like those of kidneys and lesions, and make these hard to find.
`cavity`, (H, W), is each pixel's distance from the outline of the abdominal cavity in mm, negative inside.
"""

import math

import numpy as np

from kitsam.phantom.anatomy import Ellipsoid, Patient
from kitsam.phantom.canvas import FAT, FLUID, LUNG, MUSCLE, WHOLE, Canvas

MIDDLE = -6.0  # y of the body's middle: kidneys lie behind it


def paint_body(canvas: Canvas, patient: Patient) -> np.ndarray:
    """Skin, fat, muscle wall with ribs, and couch. Returns `cavity`."""
    y, x = canvas.y[:, None], canvas.x[None]
    swell = 1 + 0.03 * math.sin(canvas.z / 70)

    def oval(width: float, depth: float, middle: float) -> np.ndarray:
        radius = (np.abs(x / width) ** 2.3 + np.abs((y - middle) / depth) ** 2.3) ** (1 / 2.3)
        return (radius - 1) * depth + 1.5 * canvas.coarse

    skin = oval(patient.width * swell, patient.depth * swell, MIDDLE)
    wall = oval(patient.width - patient.fat, patient.depth - 0.9 * patient.fat, MIDDLE)
    cavity = oval(patient.width - patient.fat - 15, patient.depth - 0.9 * patient.fat - 19, MIDDLE - 5)
    couch = np.abs(np.hypot(x, y - MIDDLE + 360 - patient.depth * swell) - 368) - 1.5
    canvas.paint(WHOLE, couch, patient.couch)
    canvas.paint(WHOLE, skin, patient.skin)
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
        if not patient.rib_end < angle < 1.05:
            continue
        for side in (-1, 1):
            middle = MIDDLE + depth * math.sin(angle), side * width * math.cos(angle)
            tangent = math.atan2(depth * math.cos(angle), -side * width * math.sin(angle))
            for shrink, hu in ((1, 620), (0.55, 260)):
                canvas.paint(*canvas.ellipse(Ellipsoid(canvas.z, *middle, 1, 4.2 * shrink, 10 * shrink, tangent)), hu)


def paint_bowels(canvas: Canvas, patient: Patient, cavity: np.ndarray) -> None:
    """Loops of wall and content, with gas on top."""
    for bowel in patient.bowels:
        section = canvas.ellipse(bowel.shape)
        if not section:
            continue
        window, distance = section
        distance = np.maximum(distance + 1.5 * canvas.coarse[window], cavity[window] + 3)
        content = bowel.content + (70 * np.minimum(canvas.fine[window], 0) if bowel.stool else 6 * canvas.fine[window])
        canvas.paint(window, distance, 75)
        canvas.paint(window, distance + 2.5, content)
        above = canvas.y[window[0], None] - bowel.gas
        if bowel.stool:
            above = above + 6 * canvas.fine[window]
        canvas.paint(window, np.maximum(distance + 2.5, above), -930)


def paint_upper_organs(canvas: Canvas, patient: Patient, cavity: np.ndarray) -> None:
    """Lungs above the diaphragm; stomach, spleen, liver, gallbladder and pancreas below it."""
    phase = patient.phase
    room = cavity
    if canvas.z < -70:  # the lungs come down beside the diaphragm's dome
        dy, dx = canvas.axes(WHOLE, -24, 0)
        dome = np.hypot(dy, dx * 0.73) - 150 * math.sqrt(max(0.1, 1 - ((canvas.z - 40) / 200) ** 2))
        canvas.paint(WHOLE, np.maximum(cavity + 1, -dome - 4), LUNG + 15 * canvas.fine)
        room = np.maximum(cavity, dome)

    def organ(shape: Ellipsoid, hu: float, roughness: float = 2.0, grain: float = 4.0) -> None:
        if section := canvas.ellipse(shape):
            window, distance = section
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


def paint_fat_around_kidneys(canvas: Canvas, patient: Patient, cavity: np.ndarray) -> None:
    """The bed of fat that each kidney lies in."""
    for kidney in patient.kidneys:
        y, x = kidney.center_at(canvas.z)
        axes = kidney.rz + 26, kidney.ry + 13, kidney.rx + 12
        shape = Ellipsoid(kidney.z, y, x - 4 * kidney.side, *axes, kidney.side * kidney.turn)
        if section := canvas.ellipse(shape):
            window, distance = section
            canvas.paint(window, np.maximum(distance, cavity[window] + 1), FAT - 6 + 7 * canvas.fine[window])


def paint_muscles_and_spine(canvas: Canvas, patient: Patient) -> None:
    """Muscles of the back, iliac crests, and one vertebra after the other with discs between."""
    z = canvas.z
    muscle = MUSCLE + 5 * canvas.fine

    def oval(
        y: float, x: float, ry: float, rx: float, hu: np.ndarray | float, turn: float = 0.0, rough: float = 1.0
    ) -> None:
        window, distance = canvas.ellipse(Ellipsoid(z, y, x, 1, ry, rx, turn))
        canvas.paint(window, distance + rough * canvas.coarse[window], hu[window] if isinstance(hu, np.ndarray) else hu)

    growth = min(max((z + 70) / 150, 0.1), 1)  # of the psoas, which thickens toward the feet
    for side in (-1, 1):
        oval(47 - 4 * growth, side * (27 + 12 * growth), 8 + 14 * growth, 8 + 9 * growth, muscle, -0.3 * side)  # psoas
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


def paint_vessels(canvas: Canvas, patient: Patient) -> None:
    """Aorta, vena cava and superior mesenteric vessels, and those of the kidneys."""
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
