"""The baseline without training: boxes around what the truth holds, and nothing else of the truth."""

import numpy as np
import pytest
import torch
from test_prompted import GRID, Bright
from tiny import evaluate_config

from kitsam.evaluation import evaluate
from kitsam.evaluation.config import EvaluateConfig
from kitsam.inference.zero_shot import label_by_true_boxes
from kitsam.system.errors import OptionError


def test_every_part_is_asked_in_its_own_box():
    truth = np.zeros((3, GRID, GRID), np.uint8)
    truth[1, 2:10, 2:8] = 1
    truth[1, 4:6, 3:6] = 2
    truth[1, 7:9, 4:6] = 3
    truth[2, 12:14, 12:14] = 1
    embeddings = torch.full((3, 256, GRID, GRID), 0.5)  # the decoder sees something everywhere
    embeddings[1, 0, 8, 4] = -1  # but for a pixel of the cyst, where it doubts kidney too
    label = label_by_true_boxes(Bright(), lambda first, count: embeddings[first : first + count], truth, (1, 1, 1), 2)
    expected = truth.copy()
    expected[1, 8, 4] = 0
    assert np.array_equal(label, expected)


def test_a_set_without_a_checkpoint_has_no_baseline(data, shards, tmp_path):
    config = EvaluateConfig(str(shards), data, tmp_path / "out", zero_shot=True, device="cpu")
    with pytest.raises(OptionError, match="--zero_shot: .* has no decoder of SAM"):
        evaluate.run(config)


def test_a_baseline_takes_no_run_and_an_evaluation_needs_one(data, shards, runs, tmp_path):
    with pytest.raises(OptionError, match="--zero_shot: no run is asked, so --roi has no place"):
        evaluate_config(data, shards, runs, tmp_path, zero_shot=True)
    with pytest.raises(OptionError, match="--roi: must be given, or --zero_shot"):
        EvaluateConfig(str(shards), data, tmp_path).check_places()
