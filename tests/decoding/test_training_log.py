"""A run's log as columns, and the shares in which it was to draw its slices."""

import json

import pytest

from kitsam.decoding.training_log import read_log
from kitsam.system.errors import KitsamError


def write_log(run, lines, config=None):
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if config:
        (run / "config.yaml").write_text(json.dumps(config))
    return run


def test_a_log_that_a_stopped_run_left_unfinished_is_read(tmp_path):
    lines = [{"step": 10, "loss": 0.5}, {"step": 10, "val_dice": 0.25}, {"step": 20, "loss": 0.25}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 30, "lo')
    log = read_log(tmp_path)
    assert (log.steps.tolist(), log.loss.tolist(), log.best) == ([10, 20], [0.5, 0.25], (10, 0.25))
    assert log.planned_shares({"kidney": 3}) is None


def test_the_best_is_by_the_dice_that_the_run_chooses_by(tmp_path):
    lines = [
        {"step": step, "val_dice": one, "val_dice_pooled": other}
        for step, one, other in ((10, 0.6, 0.1), (20, 0.5, 0.3))
    ]
    assert read_log(write_log(tmp_path, lines, {"target": "cyst"})).best == (10, 0.6)
    config = {"target": "cyst", "validation": {"select": "dice_pooled", "every": 20}}
    log = read_log(write_log(tmp_path, lines, config))
    assert log.best == (20, 0.3) and log.is_pooled


def test_learning_rate_and_slices_a_second_are_columns_too(tmp_path):
    lines = [{"step": 10, "loss": 1, "learning_rate": 5e-5, "slices_per_second": 9.0}, {"step": 20, "loss": 1}]
    log = read_log(write_log(tmp_path, lines))
    assert (log.learning_rate.steps.tolist(), log.learning_rate.values.tolist()) == ([10], [5e-5])
    assert log.slices_per_second.values.tolist() == [9.0]


@pytest.mark.parametrize(
    ("target", "quotas", "shares"),
    [
        ("tumor", {"kidney": 1, "tumor": 3}, {"kidney": 0.25, "tumor": 0.75}),
        # No slice holds both, so that its share goes to the others.
        ("tumor", {"kidney": 1, "tumor": 3, "tumor_cyst": 4}, {"kidney": 0.25, "tumor": 0.75}),
        # A lesion decoder sees no background.
        ("tumor", "natural", {"kidney": 0.6, "tumor": 0.4}),
        ("roi", "natural", {"background": 0.5, "kidney": 0.3, "tumor": 0.2}),
        ("tumor", {"cyst": 1}, None),
    ],
)
def test_planned_shares_are_the_quotas_of_the_strata_that_there_are(tmp_path, target, quotas, shares):
    run = write_log(tmp_path, [{"step": 1, "loss": 1}], {"target": target, "quotas": quotas})
    available = {"background": 50, "kidney": 30, "tumor": 20, "cyst": 0, "tumor_cyst": 0}
    assert read_log(run).planned_shares(available) == shares


def test_a_log_without_a_step_is_named(tmp_path):
    with pytest.raises(KitsamError, match=r"metrics\.jsonl: holds no step"):
        read_log(write_log(tmp_path, [{"note": 1}]))
