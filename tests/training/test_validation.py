"""The quick look at whole cases while training."""

import numpy as np
import pytest

from kitsam.decoding.runs import load_run
from kitsam.shards.reader import ShardSet
from kitsam.system.processes import START_LIMIT
from kitsam.system.watch import Watch
from kitsam.training.validation import predict_slices, validate


@pytest.mark.parametrize("target", ["roi", "tumor"])
def test_dice_is_that_of_whole_cases_asked_slice_by_slice(shards, runs, target, device):
    whole, decoder = ShardSet(shards), load_run(runs[target], target)
    decoder.decoder.to(device)
    counts = []  # voxels in both, and of each alone, of each case
    for entry in whole.manifest.val:
        truth, predicted = [], []
        for z in range(entry.samples):
            samples = whole.validation_slices(entry, z, 1)
            mask = np.stack(samples.masks)
            truth.append(mask > 0 if target == "roi" else mask == 2)
            predicted.append(predict_slices(decoder, samples, mask, target, device))
        truth, predicted = np.concatenate(truth), np.concatenate(predicted)
        counts.append([(truth & predicted).sum(), truth.sum() + predicted.sum()])
    dice = np.mean([2 * both / alone for both, alone in counts])
    pooled = 2 * sum(both for both, _ in counts) / sum(alone for _, alone in counts)
    # Rounding may turn a voxel that is exactly as probable as not.
    voxel = 2 / min(alone for _, alone in counts)
    assert validate(decoder, whole, target, device, 0, 1, Watch("test", START_LIMIT))[:2] == pytest.approx(
        (dice, pooled), abs=voxel
    )
    assert dice > voxel
