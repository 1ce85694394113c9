"""A few validation slices as pictures, to see in TensorBoard what a decoder learns and where it errs.

A shard set holds no CT, so that the ground is the labels themselves, in gray: kidney, tumor and cyst from dark to light.
On it pixels that were found are green, missed ones red, false ones blue. One slice of each of the first cases, always the same: the
one with most to find. Cost: one slice a case through the decoder, on the main process alone.
"""

import numpy as np
import torch

from kitsam.config import PromptConfig, Target
from kitsam.kits.case import CYST, KIDNEY, TUMOR
from kitsam.sam.decoder import BoxDecoder
from kitsam.shards.manifest import ShardEntry
from kitsam.shards.reader import ShardSet
from kitsam.training.examples import target_mask
from kitsam.training.validation import predict_slices

MOST_PICTURES = 4
GRAYS = np.array([16, 60, 110, 160], np.uint8)  # of background, kidney, tumor, cyst
FOUND, MISSED, FALSE = (70, 190, 90), (230, 70, 60), (80, 130, 255)
CLASSES = {"roi": (KIDNEY, TUMOR, CYST), "tumor": (TUMOR,), "cyst": (CYST,)}


def validation_pictures(
    decoder: BoxDecoder, shards: ShardSet, target: Target, config: PromptConfig, device: torch.device
) -> dict[str, np.ndarray]:
    """Name of the case and slice -> (H, W, 3) uint8."""
    decoder.eval()
    pictures = {}
    for case in shards.manifest.val[:MOST_PICTURES]:
        samples = shards.validation_slices(case, _most_telling_slice(shards, case, target), 1)
        mask = np.stack(samples.masks)
        predicted = predict_slices(decoder, samples, mask, target, config, device)
        record = samples.records[0]
        pictures[f"{record.case}, slice {record.slice}"] = overlay(mask[0], target_mask(mask, target)[0], predicted[0])
    decoder.train()
    return pictures


def _most_telling_slice(shards: ShardSet, case: ShardEntry, target: Target) -> int:
    """With most pixels of the target; where there is none, with most kidney."""
    samples = shards.index(case).samples
    return max(range(len(samples)), key=lambda i: (sum(samples[i].pixels[label] for label in CLASSES[target]), samples[i].pixels[KIDNEY]))


def overlay(labels: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(H, W) labels and masks -> (H, W, 3) uint8."""
    picture = np.repeat(GRAYS[labels][:, :, None], 3, axis=2)
    for color, where in ((FOUND, truth & predicted), (MISSED, truth & ~predicted), (FALSE, predicted & ~truth)):
        picture[where] = color
    return picture
