"""Which lesions count as found, and components that come slab by slab."""

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from lesion_maps import SPACING, label_maps
from scipy import ndimage

from kitsam.evaluation import slabs
from kitsam.evaluation.lesions import SIZE_NAMES, Lesions, detection, size_class
from kitsam.evaluation.metrics import score_case
from kitsam.evaluation.summary import detections


def counted_whole(truth: np.ndarray, prediction: np.ndarray, label: int) -> Lesions:
    """The same by components of the whole volumes."""

    def parts(mask: np.ndarray, other: np.ndarray) -> tuple[list[float], list[float]]:
        numbers, count = ndimage.label(mask, np.ones((3, 3, 3)))
        hit, alone = [], []
        for number in range(1, count + 1):
            part = numbers == number
            (hit if (part & other).any() else alone).append(part.sum() / 1000)
        return sorted(hit, reverse=True), sorted(alone, reverse=True)

    found, missed = parts(truth == label, prediction == label)
    return Lesions(found, missed, parts(prediction == label, truth == label)[1])


def as_lists(lesions: Lesions) -> list[list[float]]:
    return [pytest.approx(lesions.found), pytest.approx(lesions.missed), pytest.approx(lesions.false)]


SNAKE = np.zeros((9, 7, 7), np.uint8)
SNAKE[np.arange(9), [0, 1, 2, 3, 4, 3, 2, 1, 0], [6, 5, 4, 3, 2, 1, 0, 0, 0]] = 2


@pytest.mark.parametrize("slab_bytes", [slabs.SLAB_BYTES, 0], ids=["one slab", "thin slabs"])
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(maps=(SNAKE, np.zeros_like(SNAKE)))
@given(maps=label_maps())
def test_lesions_are_those_of_the_whole_volume_however_it_is_cut(slab_bytes, maps, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB_BYTES", slab_bytes)
    monkeypatch.setattr(slabs, "PLANES_PER_MARGIN", 0 if slab_bytes == 0 else slabs.PLANES_PER_MARGIN)
    scores = score_case(*maps, SPACING)
    for label, lesions in ((2, scores.tumors), (3, scores.cysts)):
        expected = counted_whole(*maps, label)
        assert [lesions.found, lesions.missed, lesions.false] == as_lists(expected)


def test_one_voxel_in_common_is_a_find_and_a_neighbor_is_none():
    truth, prediction = np.zeros((2, 3, 12, 12), np.uint8)
    truth[1, 2:4, 2:4] = truth[1, 8:10, 8:10] = 2
    prediction[1, 3, 3] = 2  # inside the first
    prediction[1, 7, 7] = 2  # touches the second's corner only
    lesions = score_case(truth, prediction, SPACING).tumors
    assert [len(part) for part in (lesions.found, lesions.missed, lesions.false)] == [1, 1, 1]


def test_a_tumor_called_a_cyst_is_a_missed_tumor_and_a_false_cyst():
    truth = np.zeros((3, 12, 12), np.uint8)
    truth[1, 2:4, 2:4] = 2
    scores = score_case(truth, np.where(truth == 2, 3, 0).astype(np.uint8), SPACING)
    assert scores.tumors == Lesions(missed=[0.004]) and scores.cysts == Lesions(false=[0.004])


@pytest.mark.parametrize(
    ("diameter_cm", "name"),
    [(0.1, "<1 cm"), (0.99, "<1 cm"), (1.01, "1–2 cm"), (3.9, "2–4 cm"), (4.1, "4–7 cm"), (7.1, "≥7 cm")],
)
def test_size_is_the_diameter_of_a_ball_of_the_volume(diameter_cm, name):
    assert SIZE_NAMES[size_class(np.pi / 6 * diameter_cm**3)] == name


def test_lesions_of_all_cases_add_up(variants):
    spacing = (3.0, 0.75, 0.8)
    cases = {
        name: score_case(variants["same"], variants[name], spacing) for name in ("same", "no tumor", "tumor as cyst")
    }
    found = detections(cases)
    assert (sum(found["tumors"].found), sum(found["tumors"].missed)) == (1, 2)
    assert found["tumors"].sensitivity == pytest.approx(1 / 3)
    assert found["cysts"].false_per_case == pytest.approx(1 / 3)
    assert detection([Lesions()]).sensitivity is None
