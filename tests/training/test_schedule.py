import pytest

from kitsam.training.config import OptimizerConfig
from kitsam.training.schedule import learning_rate

CONFIG = OptimizerConfig(peak_rate=1.0, final_rate=0.1, warmup_steps=10)


def test_the_rate_rises_linearly_to_its_peak():
    assert [learning_rate(step, 110, CONFIG) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])


def test_then_falls_as_half_a_cosine():
    assert learning_rate(10, 110, CONFIG) == pytest.approx(1.0)
    assert learning_rate(60, 110, CONFIG) == pytest.approx(0.55)
    assert learning_rate(110, 110, CONFIG) == pytest.approx(0.1)


def test_no_warmup_and_a_run_shorter_than_its_warmup_are_possible():
    assert learning_rate(0, 5, OptimizerConfig(peak_rate=1.0, warmup_steps=0)) == pytest.approx(1.0)
    assert learning_rate(3, 4, CONFIG) == pytest.approx(0.4)
