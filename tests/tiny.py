"""Tiny real objects for tests: cases drawn by hand, and options for small sets and short runs."""

from pathlib import Path

import nibabel as nib
import numpy as np

from kitsam.ct.config import InputConfig, ViewsConfig
from kitsam.embedding.config import EmbedConfig
from kitsam.evaluation.config import EvaluateConfig
from kitsam.inference.config import CascadeConfig
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


def write_cases(data: Path, count: int = 5) -> Path:
    for number in range(count):
        write_case(data / f"case_{number:05d}", *draw_case(number))
    return data


# What `embed_config` says, as words of a command line.
EMBED_WORDS = (
    "--encoder.name=tiny", f"--encoder.input_size={SIDE}", "--input.channels=gray", "--views.count=2",
    "--val_fraction=0.4", "--group_cases=2", "--shard_samples=16", "--device=cpu",
)  # fmt: skip


def embed_config(data: Path, out: Path, **changes) -> EmbedConfig:
    options = {
        "encoder": EncoderConfig(name="tiny", input_size=SIDE),
        "input": InputConfig(),
        "views": ViewsConfig(count=2),
        "val_fraction": 0.4,
        "group_cases": 2,
        "shard_samples": 16,
        "device": "cpu",
    }
    return EmbedConfig(data, out, **{**options, **changes})


def train_config(target: str, shards: Path, out: Path, **changes) -> TrainConfig:
    options = {
        "steps": 6,
        "batch_size": 4,
        "quotas": {"kidney": 1, "tumor": 2, "tumor_cyst": 1} if target != "roi" else "natural",
        "shift": 0.05,
        "optimizer": OptimizerConfig(peak_rate=2e-3 if target == "roi" else 1e-3, warmup_steps=2),
        "validation": ValidationConfig(every=3, patience=0, select="dice"),
        "checkpoint_every": 2,
        "log_every": 1,
        "device": "cpu",
    }
    return TrainConfig(target, shards, out, **{**options, **changes})


LONG = 16  # steps


def long_config(shards: Path, out: Path, **changes) -> TrainConfig:
    """A run that takes a second or two, time enough to disturb it."""
    return train_config("tumor", shards, out, **{"steps": LONG, "validation": ValidationConfig(every=LONG), **changes})


def still_config(shards: Path, runs: dict[str, Path], out: Path) -> TrainConfig:
    """A run that takes the ROI decoder and moves no weight."""
    still = OptimizerConfig(peak_rate=0.0, warmup_steps=0)
    return train_config("tumor", shards, out, steps=1, optimizer=still, start_from=runs["roi"])


# Decoders trained for six steps are unsure: low thresholds make them say something.
CASCADE = {"roi_threshold": 0.3, "lesion_threshold": 0.2, "smallest_roi": 0.01, "smallest_lesion": 0.0}


def evaluate_config(data: Path, shards: Path, runs: dict[str, Path], out: Path, **changes) -> EvaluateConfig:
    options = {"cascade": CascadeConfig(**CASCADE), "device": "cpu", "workers": 1}
    return EvaluateConfig(shards, data, out=out, **{**runs, **options, **changes})


def evaluate_words(data: Path, shards: Path, runs: dict[str, Path]) -> list[str]:
    """What `evaluate_config` says, as words of a command line."""
    options = {"data": data, "shards": shards, **runs, "device": "cpu", "workers": 1}
    options |= {f"cascade.{name}": value for name, value in CASCADE.items()}
    return [f"--{name}={value}" for name, value in options.items()]
