"""One random patient: body size, contrast phase, kidneys, lesions and bowels.

Not a simulation: a cartoon with the traits that make kidney CT hard or easy. Kidneys lie in fat beside the spine,
lesions deform their outline, contrast phase and patient size vary, and bowel, spleen and liver have similar HU.
Lengths are mm with the origin between the kidneys: z to the feet, y to the back, x to the patient's left.
`painting.py` turns a patient into slices.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

REACH = 260.0  # mm to either side that textures cover


class Ellipsoid(NamedTuple):
    """A body in mm, rotated about the z axis."""

    z: float
    y: float
    x: float
    rz: float  # half-axes
    ry: float
    rx: float
    turn: float = 0.0  # of the half-axis rx from x toward y, radians


@dataclass(frozen=True)
class Phase:
    """HU that depend on the time between the injection of contrast and the scan."""

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

    Random numbers on a lattice of `scale` mm, joined by cubic splines one axis after the other. No matrix product:
    BLAS would start its own threads inside each of ours.
    """

    def __init__(self, rng: np.random.Generator, scale: float) -> None:
        self.scale = scale
        self.values = rng.standard_normal((int(2 * REACH / scale) + 4,) * 3, dtype=np.float32)

    def at(self, z: float, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """(H, W) float32 in the plane at `z` mm, at rows `y`, (H,), and columns `x`, (W,), in mm."""
        plane = self._join(self.values, np.array([z]), 0)[0]
        return self._join(self._join(plane, y, 0), x, 1)

    def _join(self, values: np.ndarray, points: np.ndarray, axis: int) -> np.ndarray:
        """Values at `points` mm along `axis` in place of those on the lattice."""
        positions = np.clip((points + REACH) / self.scale, 0, values.shape[axis] - 4 - 1e-3)
        first = positions.astype(int)
        t = (positions - first).astype(np.float32)
        weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3])
        weights /= np.linalg.norm(weights, axis=0)
        shape = [1] * values.ndim
        shape[axis] = -1
        return sum(values.take(first + tap, axis) * weights[tap].reshape(shape) for tap in range(4))


@dataclass(frozen=True)
class Kidney:
    """A bean: a rounded ellipsoid in mm, which leans away from the spine and turns its hilum to the front."""

    z: float  # of the center
    y: float
    x: float
    side: int  # -1: the patient's right, 1: left
    rz: float  # half-axes
    ry: float
    rx: float
    turn: float  # of the hilum from straight medial to the front, radians
    lean: float  # mm to the side per mm to the feet: upper poles lie nearer the spine
    pyramids: float  # where the first one points, radians

    def center_at(self, z: float) -> tuple[float, float]:
        """y, x of the middle of its section at `z`."""
        down = z - self.z
        return self.y - 0.1 * down, self.x + self.side * self.lean * down

    def section(self, z: float) -> float:
        """Size of its section at `z` relative to the middle one, 0 beyond the poles."""
        return max(0.0, 1 - abs((z - self.z) / self.rz) ** 2.4) ** (1 / 2.4)

    def point(self, z: float, outward: float, distance: float) -> tuple[float, float, float]:
        """z, y, x at `distance` times the outline.

        `outward`: the direction from the middle, radians; 0 is away from the hilum, positive to the front.
        """
        y, x = self.center_at(z)
        size = self.section(z) * distance
        along, across = math.cos(outward) * self.rx * size, math.sin(outward) * self.ry * size
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return z, y + sin * along - cos * across, x + self.side * (cos * along + sin * across)


class Lesion(NamedTuple):
    """A tumor or a cyst, in mm."""

    z: float  # of the center
    y: float
    x: float
    radius: float
    hu: float
    lobulation: float = 0.0  # depth of the lobes as a share of the radius


@dataclass(frozen=True)
class Bowel:
    """One loop of bowel with its content."""

    shape: Ellipsoid
    content: float  # HU
    gas: float  # y above which there is gas
    stool: bool


@dataclass(frozen=True)
class Patient:
    """All that slices are painted from, in mm."""

    width: float  # half-axes of the skin
    depth: float
    fat: float  # thickness under the skin at the sides
    phase: Phase
    kidneys: tuple[Kidney, ...]
    tumors: tuple[Lesion, ...]
    cysts: tuple[Lesion, ...]
    bowels: tuple[Bowel, ...]
    vertebra: float  # z of a disc
    bone: float  # HU of spongy bone
    liver: float  # sizes relative to the usual
    spleen: float
    stomach: float
    coarse: Texture
    fine: Texture
    skin: float = 15.0  # HU
    couch: float = -20.0  # HU
    rib_end: float = -0.7  # direction from the middle at which ribs end, radians from the side to the back


def draw_patient(rng: np.random.Generator, spacing: float) -> Patient:
    """Draw a patient; `spacing`: largest distance between voxels in mm, below which lesions would not be visible."""
    width, depth, fat = rng.normal(166, 9), rng.normal(124, 7), rng.uniform(8, 24)
    phase = _draw_phase(rng)
    kidneys = _draw_kidneys(rng)
    tumors, cysts = _draw_lesions(rng, kidneys, phase, spacing)
    return Patient(
        width=float(np.clip(width, 148, 184)),
        # Leave room behind the spine's muscles for the fat under the skin.
        depth=float(np.clip(depth, 112 + 0.9 * fat, 142)),
        fat=fat,
        phase=phase,
        kidneys=kidneys,
        tumors=tumors,
        cysts=cysts,
        bowels=draw_bowels(rng),
        vertebra=rng.uniform(0, 34),
        bone=rng.uniform(150, 240),
        liver=rng.uniform(0.86, 1.12),
        spleen=rng.uniform(0.75, 1.2),
        stomach=rng.uniform(0.7, 1.2),
        coarse=Texture(rng, 26.0),
        fine=Texture(rng, 7.0),
    )


def _draw_phase(rng: np.random.Generator) -> Phase:
    if rng.random() < 0.65:  # late arterial: the cortex stands out
        cortex = rng.uniform(170, 225)
        return Phase(
            cortex=cortex,
            medulla=cortex - rng.uniform(45, 85),
            aorta=rng.uniform(230, 330),
            vein=rng.uniform(90, 140),
            liver=rng.uniform(70, 95),
            spleen=rng.uniform(105, 135),
            tumor=rng.uniform(55, 115),
            rim=rng.uniform(0, 45),
        )
    cortex = rng.uniform(150, 195)  # venous: the kidney is even
    return Phase(
        cortex=cortex,
        medulla=cortex - rng.uniform(0, 15),
        aorta=rng.uniform(150, 185),
        vein=rng.uniform(140, 175),
        liver=rng.uniform(95, 125),
        spleen=rng.uniform(110, 135),
        tumor=rng.uniform(45, 100),
        rim=rng.uniform(0, 25),
    )


def _draw_kidneys(rng: np.random.Generator) -> tuple[Kidney, ...]:
    missing = rng.choice([-1, 1]) if rng.random() < 0.05 else 0
    kidneys = []
    for side in (-1, 1):
        size = rng.normal(1.0, 0.06)
        kidney = Kidney(
            z=-side * rng.uniform(0, 7),  # the liver pushes the right one down
            y=rng.normal(34, 5),
            x=side * rng.normal(74, 4),
            side=side,
            rz=46 * size * rng.normal(1, 0.04),
            ry=25.5 * size,
            rx=31.5 * size,
            turn=rng.uniform(0.35, 0.85),
            lean=rng.uniform(0.1, 0.25),
            pyramids=rng.uniform(0, math.pi),
        )
        if side != missing:
            kidneys.append(kidney)
    return tuple(kidneys)


def _draw_lesions(
    rng: np.random.Generator, kidneys: tuple[Kidney, ...], phase: Phase, spacing: float
) -> tuple[tuple[Lesion, ...], tuple[Lesion, ...]]:
    """One tumor, and in half of the patients up to three cysts, with the volumes of KiTS23."""
    host = kidneys[rng.integers(len(kidneys))]
    radius = max(_radius(_milliliters(rng, 32, 1.8, 0.8, 450)), 1.25 * spacing)
    pole = int(rng.choice([-1, 1]))
    z = host.z + pole * rng.uniform(0.05, 0.75) * host.rz
    # A large tumor has room only in front of the kidney.
    outward = rng.uniform(-0.9, 1.3) if radius < 18 else rng.uniform(0.7, 1.6)
    out = rng.uniform(0.6, 1.1) * min(1, 14 / radius) + 0.75 * max(0, radius - 14) / 26
    tumor = Lesion(*host.point(z, outward, out), radius, phase.tumor, rng.uniform(0.06, 0.2))
    cysts = []
    count = int(rng.integers(1, 4)) if rng.random() < 0.52 else 0
    total = _milliliters(rng, 4.4, 2.0, 0.4, 90)
    for share in rng.dirichlet([1.5] * count).tolist():
        kidney = kidneys[rng.integers(len(kidneys))]
        end = -pole if kidney is host else int(rng.choice([-1, 1]))
        z = kidney.z + end * rng.uniform(0.2, 0.8) * kidney.rz
        radius = max(_radius(total * share), 0.75 * spacing)
        place = kidney.point(z, rng.uniform(-0.5, 1.4), rng.uniform(0.7, 1.0) + max(0, radius - 12) / 30)
        cysts.append(Lesion(*place, radius, rng.uniform(0, 25)))
    return (tumor,), tuple(cysts)


def _milliliters(rng: np.random.Generator, median: float, spread: float, least: float, most: float) -> float:
    """A volume; `spread`: standard deviation of its logarithm."""
    return min(max(median * math.exp(rng.normal(0, spread)), least), most)


def _radius(milliliters: float) -> float:
    """Radius of a ball in mm."""
    return (milliliters * 750 / math.pi) ** (1 / 3)


def draw_bowels(rng: np.random.Generator) -> tuple[Bowel, ...]:
    contrast = rng.uniform(180, 380) if rng.random() < 0.3 else rng.uniform(15, 40)  # with oral contrast or without
    loops = []
    for side, x in ((-1, -108), (1, 112)):  # colon, going up and coming down
        for z in range(-40 if side < 0 else -90, 140, 34):
            radius = rng.uniform(15, 21)
            shape = Ellipsoid(z, rng.normal(2, 5), x + rng.normal(0, 4), 27, radius, radius)
            loops.append(Bowel(shape, rng.uniform(10, 50), shape.y - rng.uniform(0, 14), True))
    for _ in range(int(rng.integers(42, 62))):
        radius = rng.uniform(9, 16)
        middle = rng.uniform(-45, 150), rng.uniform(-88, -12), rng.uniform(-85, 90)
        axes = rng.uniform(14, 30), radius, radius * rng.uniform(1, 2.4)
        shape = Ellipsoid(*middle, *axes, rng.uniform(-1.2, 1.2))
        gas = shape.y - (rng.uniform(0, 6) if rng.random() < 0.3 else 99)
        loops.append(Bowel(shape, contrast + rng.normal(0, 8), gas, False))
    return tuple(loops)
