import pytest

from kitsam.training.config import OptimizerConfig
from kitsam.training.schedule import learning_rate

CONFIG = OptimizerConfig(peak_rate=1.0, final_rate=0.1, warmup_steps=10)


def test_the_rate_rises_linearly_to_its_peak():
    assert [learning_rate(step, [110], CONFIG) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])


def test_then_falls_as_half_a_cosine():
    assert learning_rate(10, [110], CONFIG) == pytest.approx(1.0)
    assert learning_rate(60, [110], CONFIG) == pytest.approx(0.55)
    assert learning_rate(110, [110], CONFIG) == pytest.approx(0.1)


def test_no_warmup_and_a_run_shorter_than_its_warmup_are_possible():
    assert learning_rate(0, [5], OptimizerConfig(peak_rate=1.0, warmup_steps=0)) == pytest.approx(1.0)
    assert learning_rate(3, [4], CONFIG) == pytest.approx(0.4)


def test_each_tail_of_a_prolonged_run_falls_from_the_peak_again():
    first = [learning_rate(step, [110], CONFIG) for step in range(110)]
    both = [learning_rate(step, [110, 210], CONFIG) for step in range(210)]
    assert both[:110] == first
    assert both[110:] == pytest.approx(first[10:])


def test_a_tail_that_begins_within_the_warm_up_has_none():
    assert [learning_rate(step, [4, 8], CONFIG) for step in (3, 4, 6)] == pytest.approx([0.4, 1.0, 0.55])
