"""A label map of balls: two kidneys, a tumor at one and a cyst at the other."""

import numpy as np

from kitsam.ct.labels import CYST, KIDNEY, TUMOR

SPACING = (5.0, 3.0, 3.0)  # mm
SHAPE = (12, 128, 128)
BALLS = (  # label, mm of the center from the first voxel's, radius in mm
    (KIDNEY, (27, 226, 122), 30),
    (KIDNEY, (30, 226, 264), 30),
    (TUMOR, (27, 205, 100), 20),
    (CYST, (30, 205, 285), 17),
)


def kidney_labels(pixel: float = SPACING[1]) -> np.ndarray:
    """(12, 128, 128) uint8, with smaller pixels more; `pixel`: mm."""
    side = round(SHAPE[1] * SPACING[1] / pixel)
    label = np.zeros((SHAPE[0], side, side), np.uint8)
    at = np.indices(label.shape) * np.reshape((SPACING[0], pixel, pixel), (3, 1, 1, 1))
    for kind, center, radius in BALLS:
        label[np.square(at - np.reshape(center, (3, 1, 1, 1))).sum(0) < radius**2] = kind
    return label
