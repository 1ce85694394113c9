"""The free-response curve against detection repeated for each threshold on whole volumes."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from lesion_maps import SPACING, label_maps
from scipy import ndimage

from kitsam.evaluation import slabs
from kitsam.evaluation.answers import Heard
from kitsam.evaluation.froc import Froc, LesionScores, froc
from kitsam.evaluation.metrics import CaseScores, score_case

NEIGHBORS = np.ones((3, 3, 3))


@st.composite
def cases(draw) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Truth, prediction and levels of a few cases."""
    maps = draw(st.lists(label_maps(), min_size=1, max_size=3))
    # Few levels, so that there are ties.
    levels = st.sampled_from([128, 150, 200, 255])
    return [(*pair, draw(hnp.arrays(np.uint8, pair[1].shape, elements=levels))) for pair in maps]


def scored(truth: np.ndarray, prediction: np.ndarray, levels: np.ndarray) -> CaseScores:
    return score_case(truth, prediction, SPACING, heard=Heard(levels[prediction >= 2], {}))


def detected(truth: np.ndarray, prediction: np.ndarray, levels: np.ndarray, threshold: float) -> tuple[int, int]:
    """Lesions found and false ones, of the predictions whose mean level is not below the threshold."""
    parts, count = ndimage.label(prediction, NEIGHBORS)
    kept = [parts == part for part in range(1, count + 1) if levels[parts == part].mean() >= threshold - 1e-9]
    true_parts, true_count = ndimage.label(truth, NEIGHBORS)
    found = sum(any((part & (true_parts == one)).any() for part in kept) for one in range(1, true_count + 1))
    return found, sum(not (part & truth).any() for part in kept)


@pytest.mark.parametrize("thin", [False, True])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given=cases())
def test_each_point_is_the_detection_at_its_threshold(thin, given, monkeypatch):
    if thin:
        monkeypatch.setattr(slabs, "SLAB_BYTES", 0)
        monkeypatch.setattr(slabs, "PLANES_PER_MARGIN", 0)
    scores = [scored(*case) for case in given]
    for label, lesion, kind in ((2, "tumor", "tumors"), (3, "cyst", "cysts")):
        true = sum(ndimage.label(truth == label, NEIGHBORS)[1] for truth, _, _ in given)
        if not true:
            continue
        curve = froc([one.answers.lesion_scores[lesion] for one in scores], true)
        for score, sensitivity, false_per_case in zip(curve.score, curve.sensitivity, curve.false_per_case):
            counts = [detected(truth == label, said == label, levels, 255 * score) for truth, said, levels in given]
            found, false = np.sum(counts, axis=0)
            assert (sensitivity, false_per_case) == (found / true, false / len(given))
        assert sorted(curve.sensitivity) == curve.sensitivity and sorted(curve.score, reverse=True) == curve.score
        # At the end all count, as in the table of lesions found.
        found, false = (sum(len(getattr(getattr(one, kind), side)) for one in scores) for side in ("found", "false"))
        end = (curve.sensitivity[-1], curve.false_per_case[-1]) if curve.score else (0, 0)
        assert end == (found / true, false / len(given))


def test_a_curve_by_hand():
    cases = [LesionScores(found=[0.9, 0.6], false=[0.8]), LesionScores(found=[0.7], false=[0.6, 0.5])]
    assert froc(cases, true=4) == Froc(
        score=[0.9, 0.8, 0.7, 0.6, 0.5],
        sensitivity=[0.25, 0.25, 0.5, 0.75, 0.75],
        false_per_case=[0.0, 0.5, 0.5, 1.0, 1.5],
    )
    assert froc([LesionScores()], true=1) == Froc([], [], [])


def test_a_lesion_is_as_sure_as_the_surest_prediction_that_overlaps_it():
    truth, prediction, levels = np.zeros((3, 3, 12, 12), np.uint8)
    truth[1, 2:9, 2:4] = 2
    prediction[1, 2:4, 2:4], prediction[1, 7:9, 2:4], prediction[1, 4:6, 8:10] = 2, 2, 2
    levels[1, 2:4, 2:4], levels[1, 7:9, 2:4], levels[1, 4:6, 8:10] = 153, 204, 255
    levels[1, 5, 9] = 51
    scores = scored(truth, prediction, levels).answers.lesion_scores["tumor"]
    assert scores.found == [0.8] and scores.false == [pytest.approx((3 * 255 + 51) / 4 / 255)]
