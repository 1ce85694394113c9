"""Intervals of a mean against the normal theory, and over seeds."""

import numpy as np
import pytest
from scipy import stats

from kitsam.evaluation.bootstrap import mean_intervals


def test_of_many_cases_the_interval_is_that_of_the_normal_theory():
    values = np.random.default_rng(0).normal(0.7, 0.1, (400, 2)) * (1, 0.5)
    expected = [stats.norm.interval(0.95, column.mean(), stats.sem(column)) for column in values.T]
    np.testing.assert_allclose(mean_intervals(values), expected, atol=6e-4)


def test_it_covers_the_true_mean_about_as_often_as_it_says():
    covered = 0
    for seed in range(100):
        ((low, high),) = mean_intervals(np.random.default_rng(seed).normal(0, 1, (40, 1)))
        covered += low <= 0 <= high
    # Somewhat narrower than it should be with so few cases.
    assert stats.binom.ppf(1e-4, 100, 0.93) <= covered <= stats.binom.ppf(0.999, 100, 0.95)


def test_the_same_cases_get_the_same_interval_and_one_case_none():
    values = np.random.default_rng(1).random((7, 3))
    np.testing.assert_array_equal(mean_intervals(values), mean_intervals(values))
    assert np.isnan(mean_intervals(values[:1])).all()
    assert mean_intervals(np.full((5, 1), 0.25)).tolist() == [[0.25, 0.25]]


@pytest.mark.parametrize("count", [2, 3, 11])
def test_the_interval_holds_the_mean(count):
    values = np.random.default_rng(count).random((count, 4))
    bounds = mean_intervals(values)
    assert (bounds[:, 0] <= values.mean(axis=0)).all() and (values.mean(axis=0) <= bounds[:, 1]).all()
