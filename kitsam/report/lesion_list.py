"""The lesions of a case one by one, with where they are: what a reader wants to jump to.

A lesion is a 3-D component of tumor or of cyst, found, missed or false by the rule of the evaluation (any overlap with
the other side's mask of the same class). Its diameter is the largest distance in it, as radiologists measure.
"""

from typing import Literal, NamedTuple

import numpy as np
from scipy.ndimage import find_objects

from kitsam.ct.boxes import box_of
from kitsam.ct.labels import CLASS_NAMES, CYST, TUMOR
from kitsam.ct.parts import CORNERS, number_parts
from kitsam.ct.volume import Geometry
from kitsam.inference.measures import largest_diameter

Outcome = Literal["found", "missed", "false", "true"]
Point = tuple[int, int, int]  # slice, row, column, in the canonical frame


class LesionRow(NamedTuple):
    kind: str  # tumor or cyst
    outcome: Outcome  # "true" where there is no prediction to find it
    volume_ml: float
    diameter_cm: float
    at: Point  # the middle of the slice on which it is largest


def list_lesions(truth: np.ndarray, prediction: np.ndarray | None, geometry: Geometry) -> list[LesionRow]:
    """True ones, then false ones, each kind from the largest on; (S, H, W) labels each."""
    rows = []
    for label in (TUMOR, CYST):
        true = truth == label
        if prediction is None:
            rows += _rows(true, true, ("true", None), label, geometry)
        else:
            predicted = prediction == label
            rows += _rows(true, predicted, ("found", "missed"), label, geometry)
            rows += _rows(predicted, true, (None, "false"), label, geometry)
    return sorted(rows, key=lambda row: (row.outcome == "false", -row.volume_ml))


def _rows(
    mask: np.ndarray,
    other: np.ndarray,
    outcomes: tuple[
        Outcome | None, Outcome | None
    ],  # of those that overlap the other mask, and that do not; None: none
    label: int,
    geometry: Geometry,
) -> list[LesionRow]:
    box = box_of(mask)
    if box is None:
        return []
    # Rows and columns; all slices.
    inside = np.ascontiguousarray(mask[:, box[0], box[1]])
    numbers, count = number_parts(inside, CORNERS)
    shared = np.zeros(count + 1, bool)
    shared[np.unique(numbers[other[:, box[0], box[1]]])] = True
    rows = []
    for number, part in enumerate(find_objects(numbers), start=1):
        outcome = outcomes[0 if shared[number] else 1]
        if outcome is None:
            continue
        corner = np.array([part[0].start, part[1].start + box[0].start, part[2].start + box[1].start])
        points = np.argwhere(numbers[part] == number) + corner  # (N, 3)
        slices, areas = np.unique(points[:, 0], return_counts=True)
        largest = slices[areas.argmax()]
        middle = points[points[:, 0] == largest].mean(axis=0)
        rows.append(
            LesionRow(
                CLASS_NAMES[label],
                outcome,
                len(points) * geometry.voxel_ml,
                largest_diameter(points, geometry.canonical) / 10,
                tuple(round(value) for value in middle.tolist()),
            )
        )
    return rows
