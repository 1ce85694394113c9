"""Small label volumes, the official scores of a pair, and files to score."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import surface_distance
from scipy import ndimage

OFFICIAL_GROUPS = {
    "kidney": ((1, 2, 3), 1.0330772532390826),
    "masses": ((2, 3), 1.1328796488598762),
    "tumor": ((2,), 1.1498198361434828),
}
Scores = dict[str, float]


@pytest.fixture(scope="session")
def official_surface_dice() -> Callable[..., float]:
    def compute(truth: np.ndarray, prediction: np.ndarray, spacing, tolerance: float) -> float:
        distances = surface_distance.compute_surface_distances(truth, prediction, spacing)
        return surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)

    return compute


@pytest.fixture(scope="session")
def official_scores(official_surface_dice) -> Callable[..., Scores]:
    """The six columns by the definitions of the official evaluator, with the package that it uses."""

    def compute(truth: np.ndarray, prediction: np.ndarray, spacing) -> Scores:
        dice, surface = {}, {}
        for name, (classes, tolerance) in OFFICIAL_GROUPS.items():
            true, predicted = np.isin(truth, classes), np.isin(prediction, classes)
            if not true.any() or not predicted.any():
                dice[name] = surface[name] = float(true.any() == predicted.any())
                continue
            dice[name] = 2 * (true & predicted).sum() / (true.sum() + predicted.sum())
            surface[name] = official_surface_dice(true, predicted, spacing, tolerance)
        return {f"Dice_{name}": dice[name] for name in dice} | {f"SD_{name}": surface[name] for name in surface}

    return compute


@pytest.fixture(scope="session")
def anatomy() -> np.ndarray:
    """(S, H, W) labels: two kidneys, a tumor that bulges out of one, a cyst in the other."""
    z, y, x = np.indices((14, 32, 40))
    labels = np.zeros(z.shape, np.uint8)

    def ball(cz: float, cy: float, cx: float, radius: float) -> np.ndarray:
        return (2 * (z - cz)) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < radius**2

    labels[ball(7, 16, 10, 7)] = 1
    labels[ball(7, 16, 30, 7)] = 1
    labels[ball(6, 13, 31, 4)] = 3
    labels[ball(8, 20, 8, 5)] = 2
    return labels


@pytest.fixture(scope="session")
def variants(anatomy) -> dict[str, np.ndarray]:
    """Predictions of many kinds for the anatomy."""
    inner = ndimage.binary_erosion(anatomy > 0)
    return {
        "same": anatomy,
        "shifted": np.roll(anatomy, (1, 2, -1), (0, 1, 2)),
        "eroded": np.where(inner, anatomy, 0).astype(np.uint8),
        "grown": np.where(anatomy == 0, ndimage.binary_dilation(anatomy > 0).astype(np.uint8), anatomy).astype(
            np.uint8
        ),
        "empty": np.zeros_like(anatomy),
        "no tumor": np.where(anatomy == 2, 1, anatomy).astype(np.uint8),
        "no cyst": np.where(anatomy == 3, 1, anatomy).astype(np.uint8),
        "no mass": (anatomy > 0).astype(np.uint8),
        "tumor as cyst": np.where(anatomy == 2, 3, anatomy).astype(np.uint8),
        "everything tumor": np.full_like(anatomy, 2),
        "one voxel": np.pad(np.full((1, 1, 1), 2, np.uint8), [(0, size - 1) for size in anatomy.shape]),
    }


SPACING = (3.0, 0.75, 0.8)  # mm between slices, rows, columns
IPL = np.array([[0, 0, -SPACING[2], 90.0], [0, -SPACING[1], 0, 50.0], [-SPACING[0], 0, 0, 10.0], [0, 0, 0, 1]])


@pytest.fixture(scope="session")
def save() -> Callable[..., Path]:
    """Write labels in KiTS's orientation, or turned to another one."""

    def write(path: Path, labels: np.ndarray, orientation: str = "IPL", affine: np.ndarray = IPL) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(labels, affine)
        turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(orientation))
        nib.save(image.as_reoriented(turn), path)
        return path

    return write
