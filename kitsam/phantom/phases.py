"""HU of organs at the three times after the injection of contrast at which kidneys are scanned.

Ranges around those of 25 KiTS cases (49 slices, clipped to 0..255 HU): a case's mean lies at 54-191 HU in kidneys, at
18-148 in tumors.
"""

import numpy as np

from kitsam.phantom.anatomy import Phase

SHARES = (0.35, 0.45, 0.2)  # of scans: corticomedullary, nephrographic, late or weak


def draw_phase(rng: np.random.Generator) -> Phase:
    kind = rng.choice(3, p=SHARES)
    return (_corticomedullary, _nephrographic, _weak)[kind](rng)


def _corticomedullary(rng: np.random.Generator) -> Phase:
    """After some 30 s: the cortex is bright, the medulla not yet."""
    return Phase(
        cortex=rng.uniform(150, 260),
        medulla=rng.uniform(50, 110),
        aorta=rng.uniform(220, 350),
        vein=rng.uniform(80, 140),
        liver=rng.uniform(62, 90),
        spleen=rng.uniform(95, 135),
        tumor=rng.uniform(70, 140),
        rim=0,
    )


def _nephrographic(rng: np.random.Generator) -> Phase:
    """After some 90 s: the kidney is even."""
    cortex = rng.uniform(110, 190)
    return Phase(
        cortex=cortex,
        medulla=cortex - rng.uniform(5, 28),
        aorta=rng.uniform(140, 185),
        vein=rng.uniform(130, 175),
        liver=rng.uniform(90, 125),
        spleen=rng.uniform(105, 135),
        tumor=rng.uniform(65, 110),
        rim=0,
    )


def _weak(rng: np.random.Generator) -> Phase:
    """Little contrast, or late: all organs are alike."""
    cortex = rng.uniform(70, 118)
    return Phase(
        cortex=cortex,
        medulla=cortex - rng.uniform(2, 16),
        aorta=rng.uniform(80, 125),
        vein=rng.uniform(75, 115),
        liver=rng.uniform(60, 90),
        spleen=rng.uniform(60, 90),
        tumor=rng.uniform(40, 65),
        rim=0,
    )
