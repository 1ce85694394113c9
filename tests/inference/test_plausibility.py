"""Each answer that no scan of kidneys has is told, and a plausible one is not."""

import numpy as np
import pytest

from kitsam.inference.measures import Finding
from kitsam.inference.plausibility import doubts_of_answer

SHAPE, SPACING = (12, 40, 40), (10.0, 10.0, 10.0)


def kidney(side: str, volume: float, number: int = 1) -> Finding:
    return Finding("kidney", number, volume, 100.0, side, 3, 8)


PAIR = [kidney("right", 180), kidney("left", 170, 2)]


@pytest.fixture
def voxels() -> np.ndarray:
    """A body in air."""
    voxels = np.full(SHAPE, -1000, np.float32)
    voxels[:, 4:36, 4:36] = 50
    return voxels


@pytest.fixture
def label() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[3:9, 15:25, 8:14] = label[3:9, 15:25, 26:32] = 1
    return label


def test_a_plausible_answer_raises_no_doubt(voxels, label):
    assert doubts_of_answer(voxels, SPACING, label, PAIR, []) == []


@pytest.mark.parametrize(
    ("kidneys", "lesions", "words"),
    [
        ([], [], "no kidney was found"),
        ([kidney("right", 700), PAIR[1]], [], "the right kidney has 700 mL, more than 600"),
        ([PAIR[0], kidney("left", 30, 2)], [], "the left kidney has 30 mL with its masses, less than 50"),
        ([*PAIR, kidney("left", 90, 3)], [], "3 kidneys were found, of 180, 170, 90 mL"),
    ],
)
def test_kidneys_that_nobody_has_are_told(voxels, label, kidneys, lesions, words):
    assert any(words in doubt for doubt in doubts_of_answer(voxels, SPACING, label, kidneys, lesions))


def test_a_kidney_that_is_nearly_all_tumor_is_plausible(voxels, label):
    lesions = [Finding("tumor", 1, 900, 120.0, "left", 3, 8)]
    assert doubts_of_answer(voxels, SPACING, label, [PAIR[0], kidney("left", 20, 2)], lesions) == []


def test_numbers_that_are_no_hounsfield_units_are_told(voxels, label):
    (doubt,) = doubts_of_answer(voxels + 1024, SPACING, label, PAIR, [])[:1]
    assert "1074 HU" in doubt and "is it CT" in doubt


def test_what_touches_the_border_is_told(voxels, label):
    label[0, 20, 10] = 1
    assert doubts_of_answer(voxels, SPACING, label, PAIR, [])[0].startswith(
        "what was found is cut by the scan's upper end"
    )
    label[0] = 0
    label[4, 20, 0] = 1
    assert doubts_of_answer(voxels, SPACING, label, PAIR, []) == ["what was found reaches the edge of the slices"]


def test_a_cropped_scan_is_told(voxels, label):
    doubts = doubts_of_answer(voxels[:, :, 4:30], SPACING, label[:, :, 4:30], PAIR, [])
    assert "the scan is cropped: the body goes on beyond its right, left edge" in doubts


def test_masses_that_nobody_has_are_told(voxels, label):
    lesions = [Finding("tumor", 1, 5000, 300.0, "left", 3, 8)]
    assert doubts_of_answer(voxels, SPACING, label, PAIR, lesions) == [
        "the masses of the left kidney have 5000 mL, more than 3000"
    ]


def test_what_was_found_between_lungs_is_told(voxels, label):
    voxels[:, 8:30, 8:20] = voxels[:, 8:30, 22:34] = -800
    label[:] = 0
    label[3:9, 32:35, 10:14] = 1
    (doubt,) = [one for one in doubts_of_answer(voxels, SPACING, label, PAIR, []) if "lungs" in one]
    assert doubt == "the slices in which it was found hold lungs, 52% of the body: a chest?"


@pytest.mark.parametrize(
    ("spacing", "width", "words"),
    [
        ((5, 5, 5), 160, "a head, a limb or a small child? Or are the lengths not in mm?"),
        ((1, 1, 1), 32, "a head, a limb or a small child? Or are the lengths not in mm?"),
        ((100, 100, 100), 3200, "are the lengths in mm?"),
    ],
)
def test_a_body_that_is_no_trunk_is_told_whether_or_not_kidneys_were_found(voxels, label, spacing, width, words):
    for kidneys, mask in ((PAIR, label), ([], np.zeros_like(label))):
        doubt = next(one for one in doubts_of_answer(voxels, spacing, mask, kidneys, []) if "mm wide" in one)
        assert doubt.endswith(f" mm wide: {words}")
        assert float(doubt.split()[3]) == pytest.approx(width, abs=20)


def test_a_crop_is_no_narrow_body(voxels, label):
    doubts = doubts_of_answer(voxels[:, :, 14:26], SPACING, np.zeros_like(label[:, :, 14:26]), [], [])
    assert doubts[1:] == ["the scan is cropped: the body goes on beyond its right, left edge"]
