"""A run's curves, from plain numbers."""

import json

import numpy as np
import pytest

from kitsam.decoding.training_log import read_log
from kitsam.report.training_plot import smooth, training_curve


@pytest.fixture
def curve_of(tmp_path):
    def draw(lines):
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return training_curve(read_log(tmp_path)).axes

    return draw


@pytest.mark.parametrize("validated", [True, False])
def test_a_training_curve_marks_the_best_validation_where_there_is_one(curve_of, validated):
    lines = [{"step": step, "loss": 1 / step} for step in range(1, 51)]
    lines += [{"step": 20, "val_dice": 0.8}, {"step": 40, "val_dice": 0.6}] if validated else []
    _, dice = curve_of(lines)
    marks = [line.get_xydata().tolist() for line in dice.lines[1:]]
    assert marks == ([[[20.0, 0.8]]] if validated else [])


def test_learning_rate_and_speed_have_rows_of_their_own_on_the_same_steps(curve_of):
    lines = [{"step": step, "loss": 1.0, "learning_rate": 1e-4 * step, "slices_per_second": 8.0} for step in (10, 20)]
    loss, _, rate, speed = curve_of(lines)
    assert rate.lines[0].get_xydata().tolist() == [[10, 1e-3], [20, 2e-3]] and speed.get_ylabel() == "slices/s"
    assert speed.lines[0].get_ydata().tolist() == [8.0, 8.0]
    assert loss.get_xlim() == speed.get_xlim()


def test_a_loss_is_smoothed_by_means_that_shrink_at_the_ends():
    values = np.arange(100.0)
    smoothed = smooth(values)
    assert smoothed[50] == 50 and smoothed[0] == values[:3].mean() and smoothed[-1] == values[-3:].mean()
