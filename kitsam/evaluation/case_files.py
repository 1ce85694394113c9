"""One case scored from its two files, in a worker process: this module imports little, so that one starts soon."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kitsam.ct.case import CaseFiles, read_truth
from kitsam.ct.volume import check_same_shape, read_label
from kitsam.evaluation.metrics import CaseScores, missing_prediction, score_case

# The difference of affines from which the challenge refuses a file.
SAME_AFFINE = 1e-3


@dataclass(frozen=True)
class Result:
    """A case's scores, and what a person should know about its files."""

    scores: CaseScores
    doubts: tuple[str, ...] = ()


def score_files(files: CaseFiles, prediction_path: Path | None) -> Result:
    """Raises `CaseError` naming the file that cannot be scored."""
    truth = read_truth(files)
    voxel_ml = truth.geometry.voxel_ml
    if prediction_path is None:
        return Result(missing_prediction(truth.voxels, truth.spacing, voxel_ml), truth.doubts)
    prediction = read_label(prediction_path)
    check_same_shape(prediction_path, prediction, truth)
    scores = score_case(truth.voxels, prediction.voxels, truth.spacing, voxel_ml)
    difference = float(np.abs(prediction.geometry.canonical - truth.geometry.canonical).max())
    if difference <= SAME_AFFINE:
        return Result(scores, truth.doubts)
    doubt = f"{prediction_path}: the affine differs from the truth's by {difference:.3g}"
    return Result(scores, (*truth.doubts, f"{doubt}; scored voxel by voxel all the same"))
