"""A few validation slices as pictures, to see in TensorBoard what a decoder learns and where it errs.

One slice of each of the first cases, always the same: the one with most to find. Cost: one slice a case through the
decoder, on the main process alone.
"""

import numpy as np
from accelerate import Accelerator

from kitsam.ct.labels import KIDNEY, TARGET_CLASSES, Target, target_mask
from kitsam.decoding.ask import TargetDecoder
from kitsam.pictures.agreement import agreement_picture
from kitsam.shards.kidneys import KidneyBoxes
from kitsam.shards.manifest import ShardEntry
from kitsam.shards.reader import ShardSet
from kitsam.system.devices import to_host
from kitsam.training.validation import boxes_of, masks_on, predict_slices

MOST_PICTURES = 4


def validation_pictures(
    accelerator: Accelerator, target_decoder: TargetDecoder, kidneys: KidneyBoxes, target: Target
) -> dict[str, np.ndarray]:
    """Name of the case and slice -> (H, W, 3) uint8."""
    shards = kidneys.shards
    target_decoder.decoder.eval()
    pictures = {}
    for case in shards.manifest.val[:MOST_PICTURES]:
        samples = shards.validation_slices(case, _most_telling_slice(shards, case, target), 1)
        boxes = boxes_of(samples, kidneys, target, target_decoder.prompt)
        with accelerator.autocast():
            masks = masks_on(accelerator.device, samples)
            predicted = to_host(predict_slices(target_decoder, samples, masks, boxes, target))
        mask, record = samples.masks[0], samples.records[0]
        pictures[f"{record.case}, slice {record.slice}"] = agreement_picture(
            mask, target_mask(mask, target), predicted[0]
        )
    target_decoder.decoder.train()
    return pictures


def _most_telling_slice(shards: ShardSet, case: ShardEntry, target: Target) -> int:
    """With most pixels of the target; where there is none, with most kidney."""
    samples = shards.index(case).samples
    return max(
        range(len(samples)),
        key=lambda i: (sum(samples[i].pixels[label] for label in TARGET_CLASSES[target]), samples[i].pixels[KIDNEY]),
    )
