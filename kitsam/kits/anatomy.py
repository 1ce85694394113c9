"""A drawn abdomen: organs as ellipsoids in mm, painted slice by slice, later organs over earlier ones.

Not a simulation: a cartoon with the traits that make kidney CT hard or easy. Kidneys lie in fat beside the spine,
lesions deform their outline, contrast phase and patient size vary, and bowel, spleen and liver have similar HU.
Lengths are mm with the origin between the kidneys: z to the feet, y to the back, x to the patient's left.

Cost: a few ms a slice of 256x256, since an organ touches only the window around it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kitsam.kits.case import CYST, KIDNEY, TUMOR

AIR, LUNG, FAT, FLUID, MUSCLE = -1000.0, -850.0, -102.0, 8.0, 58.0
REACH = 260.0  # mm to either side that textures cover


class Ellipsoid(NamedTuple):
    z: float
    y: float
    x: float
    rz: float  # half-axes
    ry: float
    rx: float
    turn: float = 0.0  # of the half-axis rx from x towards y, radians


@dataclass(frozen=True)
class Phase:
    """HU that depend on when after the injection the scan was taken."""

    cortex: float
    medulla: float
    aorta: float
    vein: float
    liver: float
    spleen: float
    tumor: float
    rim: float  # added to a tumor's outer shell


class Texture:
    """A smooth random field of mean 0 and variance 1, the same at any resolution.

    Random numbers on a coarse lattice, joined by cubic splines one axis after the other. No matrix product: BLAS
    would start its own threads inside each of ours.
    """

    def __init__(self, rng: np.random.Generator, scale: float):
        self.scale = scale
        self.values = rng.standard_normal((int(2 * REACH / scale) + 4,) * 3, dtype=np.float32)

    def at(self, z: float, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """(H, W) float32 at the crossings of rows `y` and columns `x`."""
        plane = self._join(self.values, np.array([z]), 0)[0]
        return self._join(self._join(plane, y, 0), x, 1)

    def _join(self, values: np.ndarray, points: np.ndarray, axis: int) -> np.ndarray:
        places = np.clip((points + REACH) / self.scale, 0, values.shape[axis] - 4 - 1e-3)
        first = places.astype(int)
        t = (places - first).astype(np.float32)
        weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3])
        weights /= np.linalg.norm(weights, axis=0)
        shape = [1] * values.ndim
        shape[axis] = -1
        return sum(values.take(first + tap, axis) * weights[tap].reshape(shape) for tap in range(4))


@dataclass(frozen=True)
class Kidney:
    z: float
    y: float
    x: float
    side: int  # -1: the patient's right, 1: left
    rz: float
    ry: float
    rx: float
    turn: float  # of the hilum from straight medial to the front, radians
    lean: float  # mm to the side per mm to the feet: upper poles lie nearer the spine
    pyramids: float  # where the first one points, radians

    def center_at(self, z: float) -> tuple[float, float]:
        """y, x of the middle of its section."""
        down = z - self.z
        return self.y - 0.1 * down, self.x + self.side * self.lean * down

    def section(self, z: float) -> float:
        """Size of its section relative to the middle one, 0 beyond the poles."""
        return max(0.0, 1 - abs((z - self.z) / self.rz) ** 2.4) ** (1 / 2.4)

    def point(self, z: float, outward: float, distance: float) -> tuple[float, float, float]:
        """z, y, x at `distance` times the outline, in the direction `outward` (0: away from the hilum, positive: to the front)."""
        y, x = self.center_at(z)
        size = self.section(z) * distance
        along, across = np.cos(outward) * self.rx * size, np.sin(outward) * self.ry * size
        return (
            z,
            y + np.sin(self.turn) * along - np.cos(self.turn) * across,
            x + self.side * (np.cos(self.turn) * along + np.sin(self.turn) * across),
        )


class Lesion(NamedTuple):
    z: float
    y: float
    x: float
    radius: float
    hu: float
    lobulation: float = 0.0  # of the radius


@dataclass(frozen=True)
class Bowel:
    shape: Ellipsoid
    content: float  # HU
    gas: float  # y above which gas stands
    stool: bool


@dataclass(frozen=True)
class Anatomy:
    """One patient."""

    width: float  # half-axes of the skin
    depth: float
    fat: float  # under the skin, at the sides
    phase: Phase
    kidneys: tuple[Kidney, ...]
    tumors: tuple[Lesion, ...]
    cysts: tuple[Lesion, ...]
    bowels: tuple[Bowel, ...]
    vertebra: float  # z of a disc
    bone: float  # HU of spongy bone
    coarse: Texture
    fine: Texture


def draw_patient(rng: np.random.Generator, finest: float) -> Anatomy:
    """Draw a patient whose lesions have at least the radius that `finest` mm between voxels can show."""
    width, depth, fat = rng.normal(166, 9), rng.normal(124, 7), rng.uniform(8, 24)
    phase = _draw_phase(rng)
    kidneys = _draw_kidneys(rng)
    tumors, cysts = _draw_lesions(rng, kidneys, phase, finest)
    return Anatomy(
        width=float(np.clip(width, 148, 184)),
        # Behind the spine's muscles there is room for the fat under the skin.
        depth=float(np.clip(depth, 112 + 0.9 * fat, 142)),
        fat=fat,
        phase=phase,
        kidneys=kidneys,
        tumors=tumors,
        cysts=cysts,
        bowels=_draw_bowels(rng),
        vertebra=rng.uniform(0, 34),
        bone=rng.uniform(150, 240),
        coarse=Texture(rng, 26.0),
        fine=Texture(rng, 7.0),
    )


def _draw_phase(rng: np.random.Generator) -> Phase:
    if rng.random() < 0.65:  # late arterial: the cortex stands out
        cortex = rng.uniform(170, 225)
        return Phase(cortex, cortex - rng.uniform(45, 85), rng.uniform(230, 330), rng.uniform(90, 140),
                     rng.uniform(70, 95), rng.uniform(105, 135), rng.uniform(55, 115), rng.uniform(0, 45))  # fmt: skip
    cortex = rng.uniform(150, 195)  # venous: the kidney is even
    return Phase(cortex, cortex - rng.uniform(0, 15), rng.uniform(150, 185), rng.uniform(140, 175),
                 rng.uniform(95, 125), rng.uniform(110, 135), rng.uniform(45, 100), rng.uniform(0, 25))  # fmt: skip


def _draw_kidneys(rng: np.random.Generator) -> tuple[Kidney, ...]:
    missing = rng.choice([-1, 1]) if rng.random() < 0.05 else 0
    kidneys = []
    for side in (-1, 1):
        size = rng.normal(1.0, 0.06)
        kidney = Kidney(
            z=-side * rng.uniform(1, 8),  # the liver pushes the right one down
            y=rng.normal(34, 5),
            x=side * rng.normal(74, 4),
            side=side,
            rz=49 * size * rng.normal(1, 0.04),
            ry=23 * size,
            rx=29 * size,
            turn=rng.uniform(0.35, 0.85),
            lean=rng.uniform(0.1, 0.25),
            pyramids=rng.uniform(0, np.pi),
        )
        if side != missing:
            kidneys.append(kidney)
    return tuple(kidneys)


def _draw_lesions(
    rng: np.random.Generator, kidneys: tuple[Kidney, ...], phase: Phase, finest: float
) -> tuple[tuple[Lesion, ...], tuple[Lesion, ...]]:
    """One tumor, and in half of the patients up to three cysts, with the volumes of KiTS23."""
    bearer = kidneys[rng.integers(len(kidneys))]
    milliliters = np.clip(np.exp(rng.normal(np.log(32), 1.8)), 0.8, 450)
    radius = max(_radius(milliliters), 1.25 * finest)
    pole = rng.choice([-1, 1])
    z = bearer.z + pole * rng.uniform(0.05, 0.75) * bearer.rz
    # A large one finds room in front of the kidney only.
    outward = rng.uniform(-0.9, 1.3) if radius < 18 else rng.uniform(0.7, 1.6)
    out = rng.uniform(0.6, 1.1) * min(1, 14 / radius) + 0.75 * max(0, radius - 14) / 26
    tumor = Lesion(*bearer.point(z, outward, out), radius, phase.tumor, rng.uniform(0.06, 0.2))
    cysts = []
    count = int(rng.integers(1, 4)) if rng.random() < 0.52 else 0
    total = np.clip(np.exp(rng.normal(np.log(4.4), 2.0)), 0.4, 90)
    shares = rng.dirichlet(np.ones(max(count, 1)) * 1.5)
    for share in shares[:count]:
        kidney = kidneys[rng.integers(len(kidneys))]
        end = -pole if kidney is bearer else rng.choice([-1, 1])
        z = kidney.z + end * rng.uniform(0.2, 0.8) * kidney.rz
        radius = max(_radius(total * share), 0.75 * finest)
        place = kidney.point(z, rng.uniform(-1.2, 1.4), rng.uniform(0.7, 1.0) + max(0, radius - 12) / 30)
        cysts.append(Lesion(*place, radius, rng.uniform(0, 25)))
    return (tumor,), tuple(cysts)


def _radius(milliliters: float) -> float:
    return float(np.cbrt(milliliters * 750 / np.pi))


def _draw_bowels(rng: np.random.Generator) -> tuple[Bowel, ...]:
    contrast = rng.uniform(180, 380) if rng.random() < 0.3 else rng.uniform(15, 40)  # drunk before the scan, or not
    loops = []
    for side, x in ((-1, -108), (1, 112)):  # colon, going up and coming down
        for z in np.arange(-40 if side < 0 else -90, 140, 34):
            radius = rng.uniform(15, 21)
            shape = Ellipsoid(z, rng.normal(2, 5), x + rng.normal(0, 4), 27, radius, radius)
            loops.append(Bowel(shape, rng.uniform(10, 50), shape.y - rng.uniform(0, 14), True))
    for _ in range(int(rng.integers(42, 62))):
        radius = rng.uniform(9, 16)
        shape = Ellipsoid(
            rng.uniform(-45, 150), rng.uniform(-88, -12), rng.uniform(-85, 90),
            rng.uniform(14, 30), radius, radius * rng.uniform(1, 2.4), rng.uniform(-1.2, 1.2),
        )  # fmt: skip
        gas = shape.y - (rng.uniform(0, 6) if rng.random() < 0.3 else 99)
        loops.append(Bowel(shape, contrast + rng.normal(0, 8), gas, False))
    return tuple(loops)


class Canvas:
    """One slice while it is painted."""

    def __init__(self, patient: Anatomy, z: float, y: np.ndarray, x: np.ndarray, pixel: float):
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
        return self.y[window[0], None] - np.float32(y), self.x[None, window[1]] - np.float32(x)

    def ellipse(self, shape: Ellipsoid) -> tuple[tuple[slice, slice], np.ndarray] | None:
        """Window and distance from the outline in mm, negative inside; None where the slice misses the shape."""
        section = 1 - ((self.z - shape.z) / shape.rz) ** 2
        if section <= 0:
            return None
        size = np.sqrt(section)
        window = self.window(shape.y, shape.x, max(shape.ry, shape.rx) * size + 4 + self.pixel)
        dy, dx = self.axes(window, shape.y, shape.x)
        cos, sin = np.cos(shape.turn), np.sin(shape.turn)
        along, across = (cos * dx + sin * dy) / shape.rx, (cos * dy - sin * dx) / shape.ry
        return window, (np.sqrt(along**2 + across**2) - np.float32(size)) * np.float32(min(shape.ry, shape.rx))

    def paint(self, window: tuple[slice, slice], distance: np.ndarray, hu: np.ndarray | float) -> None:
        """Cover what lies inside; a pixel on the outline gets its share of both sides."""
        share = np.clip(0.5 - distance / self.pixel, 0, 1)
        self.hu[window] += share * (hu - self.hu[window])


WHOLE = (slice(None), slice(None))
MIDDLE = -6.0  # y of the body's middle: kidneys lie behind it


def draw_slice(patient: Anatomy, z: float, y: np.ndarray, x: np.ndarray, pixel: float) -> tuple[np.ndarray, np.ndarray]:
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


def _paint_body(canvas: Canvas, patient: Anatomy) -> np.ndarray:
    """Skin, fat, muscle wall with ribs, and couch. Returns the distance from the cavity's outline, negative inside."""
    y, x = canvas.y[:, None], canvas.x[None]
    swell = 1 + 0.03 * np.sin(canvas.z / 70)

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


def _paint_ribs(canvas: Canvas, patient: Anatomy) -> None:
    width, depth = patient.width - patient.fat - 7, patient.depth - 0.9 * patient.fat - 9
    for number in range(5):
        # A rib runs down and forward, so that a slice cuts several at different angles.
        angle = 0.9 - (canvas.z + 125 - 26 * number) / 75
        if not -0.7 < angle < 1.05:
            continue
        for side in (-1, 1):
            middle = MIDDLE + depth * np.sin(angle), side * width * np.cos(angle)
            tangent = np.arctan2(depth * np.cos(angle), -side * width * np.sin(angle))
            for shrink, hu in ((1, 620), (0.55, 260)):
                found = canvas.ellipse(Ellipsoid(canvas.z, *middle, 1, 4.2 * shrink, 10 * shrink, tangent))
                canvas.paint(*found, hu)


def _paint_upper_organs(canvas: Canvas, patient: Anatomy, cavity: np.ndarray) -> None:
    phase = patient.phase
    dome = canvas.ellipse(Ellipsoid(40, -24, 0, 200, 150, 205))
    if canvas.z < -70 and dome:
        lung = np.maximum(-dome[1] - 4, cavity[dome[0]] + 1)
        canvas.paint(dome[0], lung, LUNG + 15 * canvas.fine[dome[0]])

    def organ(shape: Ellipsoid, hu: float, roughness: float = 2.0, grain: float = 4.0) -> None:
        found = canvas.ellipse(shape)
        if found:
            window, distance = found
            distance = np.maximum(distance + roughness * canvas.coarse[window], cavity[window] + 2)
            if canvas.z < -70 and dome:
                distance = np.maximum(distance, _within(dome, window, canvas) + 2)
            canvas.paint(window, distance, hu + grain * canvas.fine[window])

    organ(Ellipsoid(-95, -50, 55, 62, 34, 46, 0.3), 62, 1)  # stomach: wall, content, gas
    organ(Ellipsoid(-95, -50, 55, 58, 30, 42, 0.3), 28, 1, 10)
    organ(Ellipsoid(-95, -66, 52, 40, 13, 26, 0.15), -920, 1)
    organ(Ellipsoid(-88, 34, 116, 62, 52, 27, -0.25), phase.spleen, 2.5)
    organ(Ellipsoid(-112, -12, -88, 132, 82, 74, 0.2), phase.liver, 3)
    organ(Ellipsoid(-112, -62, 0, 70, 28, 72, -0.1), phase.liver, 3)
    for vein_z, y, x, turn in ((-85, -20, -75, 0.5), (-100, -35, -60, -0.4), (-65, -8, -95, 0.9), (-110, -10, -110, 0.1)):
        organ(Ellipsoid(vein_z, y, x, 22, 3.5, 26, turn), phase.vein + 15, 3)
    organ(Ellipsoid(-30, -48, -52, 34, 13, 19, 0.5), FLUID + 4, 1, 2)  # gallbladder
    organ(Ellipsoid(-38, -28, 28, 20, 8, 48, -0.25), 80, 2, 14)  # pancreas
    organ(Ellipsoid(-18, -22, -30, 30, 13, 15), 80, 2, 14)


def _within(found: tuple[tuple[slice, slice], np.ndarray], window: tuple[slice, slice], canvas: Canvas) -> np.ndarray:
    """A distance known in one window, cut to another; far outside where it is not known."""
    whole = np.full(canvas.hu.shape, 99.0, np.float32)
    whole[found[0]] = found[1]
    return whole[window]


def _paint_bowels(canvas: Canvas, patient: Anatomy, cavity: np.ndarray) -> None:
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


def _paint_fat_around_kidneys(canvas: Canvas, patient: Anatomy, cavity: np.ndarray) -> None:
    for kidney in patient.kidneys:
        y, x = kidney.center_at(canvas.z)
        shape = Ellipsoid(kidney.z, y, x - 4 * kidney.side, kidney.rz + 26, kidney.ry + 13, kidney.rx + 12, kidney.side * kidney.turn)
        found = canvas.ellipse(shape)
        if found:
            window, distance = found
            canvas.paint(window, np.maximum(distance, cavity[window] + 1), FAT - 6 + 7 * canvas.fine[window])


def _paint_muscles_and_spine(canvas: Canvas, patient: Anatomy) -> None:
    z = canvas.z
    muscle = MUSCLE + 5 * canvas.fine

    def oval(y: float, x: float, ry: float, rx: float, hu: np.ndarray | float, turn: float = 0.0, rough: float = 1.0) -> None:
        window, distance = canvas.ellipse(Ellipsoid(z, y, x, 1, ry, rx, turn))
        canvas.paint(window, distance + rough * canvas.coarse[window], hu[window] if isinstance(hu, np.ndarray) else hu)

    grown = float(np.clip((z + 70) / 150, 0.1, 1))
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


def _paint_vessels(canvas: Canvas, patient: Anatomy) -> None:
    phase = patient.phase
    aorta, cava = (14.0, 12.0), (14.0, -20.0)  # y, x
    window, distance = canvas.ellipse(Ellipsoid(canvas.z, *cava, 1, 9, 12.5))
    canvas.paint(window, distance + 0.8 * canvas.coarse[window], phase.vein + 4 * canvas.fine[window])
    canvas.paint(*canvas.ellipse(Ellipsoid(canvas.z, *aorta, 1, 10.5, 10.5)), phase.aorta)
    canvas.paint(*canvas.ellipse(Ellipsoid(canvas.z, -12, 6, 1, 3.5, 3.5)), phase.aorta)  # superior mesenteric artery
    canvas.paint(*canvas.ellipse(Ellipsoid(canvas.z, -13, -7, 1, 5.5, 5.5)), phase.vein)  # and vein
    for kidney in patient.kidneys:
        hilum = kidney.point(kidney.z, np.pi, 0.6)[1:]
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
    reach = np.hypot(end[0] - start[0], end[1] - start[1]) / 2 + radius + 2
    window = canvas.window((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, reach)
    dy, dx = canvas.axes(window, *start)
    way_y, way_x = end[0] - start[0], end[1] - start[1]
    share = np.clip((dy * way_y + dx * way_x) / (way_y**2 + way_x**2), 0, 1)
    distance = np.hypot(dy - share * way_y, dx - share * way_x) - np.sqrt(radius**2 - (canvas.z - z) ** 2)
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
    cos, sin = np.cos(kidney.turn), np.sin(kidney.turn)
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
    mix = np.clip(tumor.radius / 30, 0.2, 1)
    lobes = mix * canvas.coarse[window] + (1 - mix) * fine
    radius = np.sqrt(dy**2 + dx**2 + np.float32(canvas.z - tumor.z) ** 2)
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
