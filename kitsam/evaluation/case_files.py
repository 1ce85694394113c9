"""One case scored from its two files, in a worker process: this module imports little, so that one starts soon."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.orientations import inv_ornt_aff

from kitsam.ct.volume import Volume, check_same_shape, read_label
from kitsam.evaluation.metrics import CaseScores, missing_prediction, score_case

# The difference of affines from which the challenge refuses a file.
SAME_AFFINE = 1e-3


@dataclass(frozen=True)
class Result:
    """A case's scores, and what a person should know about its files."""

    scores: CaseScores
    warning: str | None = None


def score_files(truth_path: Path, prediction_path: Path | None) -> Result:
    """Raises `CaseError` naming the file that cannot be scored."""
    truth = read_label(truth_path)
    if prediction_path is None:
        return Result(missing_prediction(truth.voxels, truth.spacing))
    prediction = read_label(prediction_path)
    check_same_shape(prediction_path, prediction, truth)
    difference = float(np.abs(canonical_affine(prediction) - canonical_affine(truth)).max())
    warning = (
        f"{prediction_path}: the affine differs from the truth's by {difference:.3g}"
        if difference > SAME_AFFINE
        else None
    )
    return Result(score_case(truth.voxels, prediction.voxels, truth.spacing), warning)


def canonical_affine(volume: Volume) -> np.ndarray:
    """(4, 4) canonical voxel indices -> mm: what must agree, in whatever order a file keeps its axes."""
    to_canonical = inv_ornt_aff(volume.geometry.to_file, volume.voxels.shape)
    return volume.geometry.affine @ np.linalg.inv(to_canonical)
