"""Tiny real objects for tests: cases drawn by hand, and options for small sets and short runs."""

from pathlib import Path

import nibabel as nib
import numpy as np

from kitsam.ct.config import ViewsConfig
from kitsam.embedding.config import EmbedConfig
from kitsam.sam.config import EncoderConfig
from kitsam.training.config import OptimizerConfig, TrainConfig, ValidationConfig

SPACING = (4.0, 1.5, 1.5)  # mm between slices, rows, columns
IPL = np.array([[0, 0, -SPACING[2], 0], [0, -SPACING[1], 0, 0], [-SPACING[0], 0, 0, 0], [0, 0, 0, 1.0]])
SIDE, SLICES = 64, 10


def draw_case(number: int, shape=(SLICES, SIDE, SIDE)) -> tuple[np.ndarray, np.ndarray]:
    """HU int16 and labels uint8: two bright kidneys, a tumor in one, a cyst in every second case's other."""
    rng = np.random.default_rng(number)
    z, y, x = np.indices(shape).astype(float)
    label = np.zeros(shape, np.uint8)

    def ball(cz, cy, cx, radius, flat=1.0):
        return ((z - cz) * flat) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < radius**2

    middle = shape[0] / 2
    shift = rng.uniform(-2, 2, 2)
    for side in (0.3, 0.7):
        label[ball(middle, shape[1] * 0.55 + shift[0], shape[2] * side + shift[1], 9, flat=3)] = 1
    label[ball(middle, shape[1] * 0.55 + shift[0] - 5, shape[2] * 0.3 + shift[1], 5, flat=2.5)] = 2
    if number % 2 == 0:
        label[ball(middle, shape[1] * 0.55 + shift[0] + 5, shape[2] * 0.7 + shift[1], 4, flat=2.5)] = 3
    hounsfield = np.full(shape, -1000.0)
    hounsfield[:, 8:-8, 4:-4] = 0
    for value, amount in ((1, 180), (2, 80), (3, 10)):
        hounsfield[label == value] = amount
    return (hounsfield + rng.normal(0, 10, shape)).astype(np.int16), label


def write_case(folder: Path, image: np.ndarray, label: np.ndarray | None, affine: np.ndarray = IPL) -> None:
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(image, affine), folder / "imaging.nii.gz")
    if label is not None:
        nib.save(nib.Nifti1Image(label, affine), folder / "segmentation.nii.gz")


def write_cases(data: Path, count: int = 4) -> Path:
    for number in range(count):
        write_case(data / f"case_{number:05d}", *draw_case(number))
    return data


def embed_config(data: Path, out: Path, **changes) -> EmbedConfig:
    options = {
        "encoder": EncoderConfig(name="tiny", input_size=SIDE),
        "views": ViewsConfig(count=2),
        "val_fraction": 0.25,
        "group_cases": 2,
        "shard_samples": 16,
    }
    return EmbedConfig(data, out, **{**options, **changes})


def train_config(target: str, shards: Path, out: Path, **changes) -> TrainConfig:
    options = {
        "steps": 6,
        "batch_size": 4,
        "quotas": {"kidney": 1, "tumor": 2, "tumor_cyst": 1} if target != "roi" else "natural",
        "optimizer": OptimizerConfig(peak_rate=1e-3, warmup_steps=2),
        "validation": ValidationConfig(every=3),
        "checkpoint_every": 2,
        "log_every": 1,
    }
    return TrainConfig(target, shards, out, **{**options, **changes})
