"""Calibration: against bins filled one voxel at a time, and joined from parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kitsam.evaluation.reliability import BINS, LEVELS, reliability, together

VOXELS = hnp.arrays(np.uint8, st.integers(0, 60))


def counted(levels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    counts = np.zeros((2, LEVELS), np.int64)
    np.add.at(counts, (truth.astype(int), levels), 1)
    return counts


@given(VOXELS, st.data())
def test_bins_and_their_error_are_those_of_single_voxels(levels, data):
    truth = data.draw(hnp.arrays(bool, levels.shape))
    one = reliability(counted(levels, truth))
    error = 0.0
    for number in range(BINS):
        inside = (levels / LEVELS >= number / BINS) & (levels / LEVELS < (number + 1) / BINS)
        assert one.voxels[number] == inside.sum()
        if not inside.any():
            assert one.probabilities[number] is None and one.frequencies[number] is None
            continue
        probability, frequency = np.mean(levels[inside] / 255), np.mean(truth[inside])
        assert one.probabilities[number] == pytest.approx(probability)
        assert one.frequencies[number] == pytest.approx(frequency)
        error += inside.mean() * abs(probability - frequency)
    assert one.expected_error == (pytest.approx(error, abs=1e-12) if len(levels) else None)


@given(VOXELS, VOXELS)
def test_parts_join_to_the_whole_exactly(first, second):
    parts = [counted(levels, levels % 3 == 0) for levels in (first, second)]
    assert together(map(reliability, parts)) == reliability(sum(parts))


def test_probabilities_that_come_true_as_often_as_they_say_have_no_error():
    levels = np.repeat([51, 204], 100)
    truth = np.concatenate([np.arange(100) < 20, np.arange(100) < 80])
    assert reliability(counted(levels, truth)).expected_error == pytest.approx(0)
    assert reliability(counted(levels, ~truth)).expected_error == pytest.approx(0.6)
