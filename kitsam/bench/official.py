"""The official way to score, as the KiTS23 repository does it, for `kitsam bench evaluator` to compare with.

For each group of classes it makes a boolean mask of the whole volume, counts voxels for Dice, and calls the PyPI
package `surface-distance` for the surface Dice; cases go to a pool of processes. It is a command of its own,

    python -m kitsam.bench.official PREDICTIONS DATA OUT.csv WORKERS

so that its start counts, as does that of `kitsam score`.
"""

import csv
import multiprocessing
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np

# Not imported from kitsam: a reference shares nothing with what is measured against it. Classes and tolerance in mm.
GROUPS = (((1, 2, 3), 1.0330772532390826), ((2, 3), 1.1328796488598762), ((2,), 1.1498198361434828))
HEAD = ("caseID", "Dice_kidney", "Dice_masses", "Dice_tumor", "SD_kidney", "SD_masses", "SD_tumor")


def main(predictions: Path, data: Path, out: Path, workers: int) -> None:
    """Score a folder of predictions against `data`, and write a row per case and their average to `out`."""
    paths = sorted(predictions.glob("*.nii.gz"))
    truths = [data / path.name.removesuffix(".nii.gz") / "segmentation.nii.gz" for path in paths]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        rows = pool.starmap(score_case, zip(truths, paths), chunksize=1)
    with open(out, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEAD)
        writer.writerows([path.name.removesuffix(".nii.gz"), *row] for path, row in zip(paths, rows))
        writer.writerow(["average", *np.mean(rows, axis=0)])


def score_case(truth_path: Path, prediction_path: Path) -> list[float]:
    """The six scores of a case in the order of HEAD."""
    image = nib.load(truth_path)
    truth = np.asarray(image.dataobj)
    prediction = np.asarray(nib.load(prediction_path).dataobj)
    spacing = [float(mm) for mm in image.header.get_zooms()]
    scores = [_score_group(truth, prediction, classes, spacing, tolerance) for classes, tolerance in GROUPS]
    return [score[0] for score in scores] + [score[1] for score in scores]


def _score_group(
    truth: np.ndarray, prediction: np.ndarray, classes: tuple[int, ...], spacing: list[float], tolerance: float
) -> tuple[float, float]:
    """Dice and surface Dice of (S, H, W) labels."""
    import surface_distance

    true, predicted = (np.zeros(labels.shape, bool) for labels in (truth, prediction))
    for label in classes:
        true[truth == label] = True
        predicted[prediction == label] = True
    if not true.any() or not predicted.any():
        score = float(true.any() == predicted.any())
        return score, score
    dice = 2 * np.count_nonzero(true & predicted) / (np.count_nonzero(true) + np.count_nonzero(predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        distances = surface_distance.compute_surface_distances(true, predicted, spacing)
        return dice, surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), int(sys.argv[4]))
