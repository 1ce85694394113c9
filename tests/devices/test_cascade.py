import numpy as np
import pytest
import torch
from meta_device import META, meta_device

from kitsam.decoding.ask import SliceBoxes
from kitsam.decoding.config import PromptConfig
from kitsam.decoding.ensemble import Ensemble
from kitsam.inference.cascade import Cascade, label_volume
from kitsam.inference.config import CascadeConfig
from kitsam.sam.decoder import random_decoder

SHAPE, SPACING, BATCH = (5, 40, 48), (5.0, 1.0, 1.0), 2


@pytest.mark.parametrize("source", [torch.device("cpu"), META])
@pytest.mark.parametrize("boxes", [None, SliceBoxes(np.array([1, 2, 2]), np.array([[4, 4, 18, 20]] * 3, np.float32))])
def test_a_scan_waits_once_a_batch_for_the_roi_and_once_for_both_lesions(source, boxes):
    decoders = [Ensemble((random_decoder(3, 16 * 3, seed),), PromptConfig()) for seed in range(3)]
    cascade = Cascade(*decoders, CascadeConfig(batch_size=BATCH), META)

    def embeddings(first: int, count: int) -> torch.Tensor:
        return torch.zeros(count, 256, 3, 3, dtype=torch.float16, device=source)

    with meta_device(answer=1) as answers:
        label = label_volume(cascade, embeddings, SHAPE, SPACING, boxes)
    assert label.any()
    batches = [(2, 40, 48), (2, 40, 48), (1, 40, 48)]
    lesion_batches = batches if boxes is None else batches[:2]
    assert sorted(answers) == sorted(batches + lesion_batches)
