"""Scans of a few voxels, for tests that write their own files."""

from pathlib import Path

import nibabel as nib
import numpy as np

IPL = np.array(
    [[0, 0, -0.8, 0], [0, -0.8, 0, 0], [-5.0, 0, 0, 0], [0, 0, 0, 1]]
)  # KiTS: slices of 0.8 mm pixels, 5 mm apart


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = IPL) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def draw(seed: int = 0, shape: tuple[int, int, int] = (4, 6, 5)) -> tuple[np.ndarray, np.ndarray]:
    """HU in which no two voxels are alike, and labels of every class; a flip or a swap of axes shows."""
    count = int(np.prod(shape))
    image = np.random.default_rng(seed).permutation(count).reshape(shape).astype(np.int16) - 40
    label = (image % 4).astype(np.uint8)
    label[0] = 0
    return image, label
