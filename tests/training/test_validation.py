"""The quick look at whole cases while training."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from kitsam.decoding.ask import kidney_boxes, roi_boxes
from kitsam.decoding.runs import load_run
from kitsam.shards.kidneys import KidneyBoxes
from kitsam.shards.reader import ShardSet
from kitsam.system.processes import START_LIMIT
from kitsam.system.watch import Watch
from kitsam.training.validation import masks_on, predict_slices, validate


@pytest.mark.parametrize("target", ["roi", "tumor"])
@pytest.mark.parametrize("workers", [0, 2])
def test_dice_is_that_of_whole_cases_asked_slice_by_slice(shards, runs, target, workers, device):
    whole, decoder = ShardSet(shards), load_run(runs[target], target)
    decoder.decoder.to(device)
    kidneys = KidneyBoxes(whole, decoder.prompt.merge, decoder.prompt.smallest)
    counts = []  # voxels in both, and of each alone, of each case
    for entry in whole.manifest.val:
        truth, predicted = [], []
        for z in range(entry.samples):
            samples = whole.validation_slices(entry, z, 1)
            mask = np.stack(samples.masks)
            truth.append(mask > 0 if target == "roi" else mask == 2)
            boxes = roi_boxes(decoder.prompt, 1, mask.shape[1:])
            if target == "tumor":
                boxes = kidney_boxes(mask > 0, samples.records[0].pixel_of(mask[0]), decoder.prompt)
            predicted.append(predict_slices(decoder, samples, masks_on(device, samples), boxes, target).cpu().numpy())
        truth, predicted = np.concatenate(truth), np.concatenate(predicted)
        counts.append([(truth & predicted).sum(), truth.sum() + predicted.sum()])
    dice = np.mean([2 * both / alone for both, alone in counts])
    pooled = 2 * sum(both for both, _ in counts) / sum(alone for _, alone in counts)
    # Rounding may turn a voxel that is exactly as probable as not.
    voxel = 2 / min(alone for _, alone in counts)
    accelerator = Accelerator(cpu=device.type == "cpu")
    found = validate(accelerator, decoder, kidneys, target, workers, Watch("test", START_LIMIT))
    assert found[:2] == pytest.approx((dice, pooled), abs=voxel)
    assert dice > voxel


def test_the_decoder_is_validated_in_the_number_format_that_it_trains_in(shards, runs, monkeypatch):
    whole, decoder = ShardSet(shards), load_run(runs["tumor"], "tumor")
    kidneys = KidneyBoxes(whole, decoder.prompt.merge, decoder.prompt.smallest)
    formats = []
    forward = decoder.decoder.forward

    def watched(*arguments):
        formats.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32)
        return forward(*arguments)

    monkeypatch.setattr(decoder.decoder, "forward", watched)
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = Accelerator(cpu=True, mixed_precision=precision)
        validate(accelerator, decoder, kidneys, "tumor", 0, Watch("test", START_LIMIT))
    AcceleratorState._reset_state(reset_partial_state=True)
    half = len(formats) // 2
    assert formats == [torch.float32] * half + [torch.bfloat16] * half
