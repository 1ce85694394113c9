"""A small scan with labels: two kidneys, in one of them a tumor, in the other a cyst."""

import numpy as np
import pytest

SPACING = (4.0, 1.5, 1.5)  # mm between slices, rows, columns


def kidney_labels() -> np.ndarray:
    """(12, 80, 100) uint8."""
    z, y, x = np.indices((12, 80, 100))

    def ball(cz: float, cy: float, cx: float, radius: float) -> np.ndarray:
        return (3 * (z - cz)) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < radius**2

    volume = np.zeros(z.shape, np.uint8)
    volume[ball(6, 45, 30, 13) | ball(6, 45, 70, 13)] = 1
    volume[ball(4, 52, 28, 7)] = 2
    volume[ball(8, 38, 72, 6)] = 3
    return volume


def kidney_image(labels: np.ndarray) -> np.ndarray:
    """(S, H, W) labels -> (S, H, W) float32 HU."""
    noise = np.random.default_rng(0).normal(0, 10, labels.shape)
    return (np.choose(labels, (-60, 160, 80, 10)) + noise).astype(np.float32)


@pytest.fixture(scope="session")
def labels() -> np.ndarray:
    return kidney_labels()


@pytest.fixture(scope="session")
def image(labels) -> np.ndarray:
    return kidney_image(labels)
