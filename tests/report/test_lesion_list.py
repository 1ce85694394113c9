"""The list of a case's lesions: the evaluation's own counts, and where each lies."""

from types import SimpleNamespace

import numpy as np
import pytest

from kitsam.evaluation.metrics import score_case
from kitsam.report.lesion_list import list_lesions

SPACING = (5.0, 2.0, 1.0)  # mm
GEOMETRY = SimpleNamespace(voxel_ml=0.01, canonical=np.diag([*SPACING, 1.0]))


@pytest.fixture
def maps() -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction: a tumor found, one missed, a cyst that is called a tumor, and a tumor of nothing."""
    truth, prediction = np.zeros((2, 12, 40, 50), np.uint8)
    truth[2:6, 10:20, 10:20] = 2
    truth[4, 8:22, 8:22] = 2
    prediction[3:5, 15:25, 15:25] = 2
    truth[8:10, 30:34, 30:36] = 2
    truth[8, 5:9, 40:45] = 3
    prediction[8, 5:9, 40:45] = 2
    prediction[11, 0:2, 0:3] = 2
    return truth, prediction


def test_lesions_are_found_missed_and_false_as_the_evaluation_counts_them(maps):
    rows, scores = list_lesions(*maps, GEOMETRY), score_case(*maps, SPACING)
    for kind, lesions in (("tumor", scores.tumors), ("cyst", scores.cysts)):
        for outcome in ("found", "missed", "false"):
            volumes = [row.volume_ml for row in rows if (row.kind, row.outcome) == (kind, outcome)]
            assert volumes == pytest.approx(getattr(lesions, outcome))
    assert [row.outcome for row in rows] == ["found", "missed", "missed", "false", "false"]


def test_a_lesion_lies_in_the_middle_of_its_largest_slice(maps):
    found, missed, *_ = list_lesions(*maps, GEOMETRY)
    assert found.at == (4, 14, 14) and missed.at in ((8, 32, 32), (8, 32, 33), (8, 31, 32), (8, 31, 33))


def test_a_diameter_is_the_largest_distance_in_millimeters_of_the_patient(maps):
    cyst = next(row for row in list_lesions(*maps, GEOMETRY) if row.kind == "cyst")
    # 4 rows of 2 mm and 5 columns of 1 mm, each with half a voxel at either end, on one slice of 5 mm.
    assert cyst.diameter_cm * 10 == pytest.approx(np.hypot(8, 4), abs=1)


def test_without_a_prediction_lesions_are_neither_found_nor_missed(maps):
    assert {row.outcome for row in list_lesions(maps[0], None, GEOMETRY)} == {"true"}


def test_a_case_without_lesions_has_an_empty_list(maps):
    assert list_lesions(np.ones_like(maps[0]), np.zeros_like(maps[0]), GEOMETRY) == []
