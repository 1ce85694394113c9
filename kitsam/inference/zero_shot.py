"""What a checkpoint's own decoder makes of true boxes: the baseline that a trained decoder must beat.

Boxes lie tightly around each kidney with its masses, each part of a tumor and each part of a cyst on each slice, as the
truth has them. That is more than any automatic way knows, and no training at all.
"""

import numpy as np
import torch
from torch import Tensor

from kitsam.ct.instances import find_instances
from kitsam.ct.labels import CYST, KIDNEY, TUMOR, Target
from kitsam.decoding.ask import SliceBoxes, ask
from kitsam.decoding.config import PromptConfig
from kitsam.inference.cascade import EmbeddingSource, Listener, ignore, most_probable
from kitsam.sam.decoder import BoxDecoder
from kitsam.system.devices import to_host

THRESHOLD = 0.5  # probability
TARGET_OF: dict[int, Target] = {KIDNEY: "roi", TUMOR: "tumor", CYST: "cyst"}


def label_by_true_boxes(
    decoder: BoxDecoder,
    embeddings: EmbeddingSource,
    truth: np.ndarray,  # (S, H, W) uint8
    spacing: tuple[float, float, float],  # mm between slices, rows, columns
    batch_size: int,  # slices, or boxes, at once
    listener: Listener = ignore,
) -> np.ndarray:
    """(S, H, W) uint8 labels. A voxel in several boxes is tumor or cyst, whichever is more probable, before kidney."""
    prompt = PromptConfig()
    boxes = {
        KIDNEY: _boxes(truth > 0, spacing, prompt.merge, prompt.smallest),
        TUMOR: _boxes(truth == TUMOR, spacing, 0, 0),
        CYST: _boxes(truth == CYST, spacing, 0, 0),
    }
    label = np.zeros(truth.shape, np.uint8)
    for first in range(0, len(truth), batch_size):
        count = min(batch_size, len(truth) - first)
        here = {number: every.within(first, count) for number, every in boxes.items()}
        if any(len(some.slices) for some in here.values()):
            answers = _probabilities(decoder, embeddings(first, count), here, truth.shape[1:], batch_size)
            for number, some in here.items():
                listener(TARGET_OF[number], first, answers[number], some)
            label[first : first + count] = to_host(_labels(answers))
    return label


def _boxes(mask: np.ndarray, spacing: tuple[float, float, float], merge: float, smallest: float) -> SliceBoxes:
    parts = find_instances(mask, spacing[1:], merge, smallest)
    return SliceBoxes(parts.slices, parts.boxes)


def _probabilities(
    decoder: BoxDecoder,
    embeddings: Tensor,  # (B, 256, G, G)
    boxes: dict[int, SliceBoxes],  # by class
    size: tuple[int, int],
    batch_size: int,
) -> dict[int, Tensor]:
    """(B, H, W) float32 by class."""
    return {number: ask(decoder, embeddings, some, size, batch_size) for number, some in boxes.items()}


def _labels(probabilities: dict[int, Tensor]) -> Tensor:
    """(B, H, W) uint8."""
    organ = most_probable({KIDNEY: probabilities[KIDNEY]}, THRESHOLD)
    lesion = most_probable({number: probabilities[number] for number in (TUMOR, CYST)}, THRESHOLD)
    return torch.where(lesion > 0, lesion, organ)
