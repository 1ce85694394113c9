"""Decoders that answer together, against each of them asked for itself."""

import numpy as np
import pytest
import torch

from kitsam.decoding.ask import SliceBoxes, TargetDecoder, ask
from kitsam.decoding.config import PromptConfig
from kitsam.decoding.ensemble import Ensemble, WithMirrored, ask_together, ensemble_of, mirrored
from kitsam.sam.decoder import random_decoder

GRID, SIZE = 4, (48, 64)
BOXES = SliceBoxes(np.array([0, 1, 1]), np.array([[4, 4, 30, 40], [2, 8, 33, 20], [20, 0, 64, 48]], np.float32))


@pytest.fixture(scope="module")
def decoders():
    """Sure of what they say, and of one mind nowhere."""
    made = [random_decoder(GRID, 16 * GRID, seed).eval() for seed in range(3)]
    for decoder in made:
        decoder.mask_decoder.output_hypernetworks_mlps[0].layers[-1].weight.data *= 100
    return made


@pytest.fixture(scope="module")
def embeddings():
    return torch.randn(2, 256, GRID, GRID, generator=torch.Generator().manual_seed(0))


def test_one_decoder_answers_as_it_does_alone(decoders, embeddings):
    alone = ask(decoders[0], embeddings, BOXES, SIZE)
    ensemble = ensemble_of([TargetDecoder(decoders[0], PromptConfig())])
    assert torch.equal(ask_together(ensemble, embeddings, BOXES, SIZE), alone)


def test_several_answer_with_the_mean_of_their_probabilities(decoders, embeddings):
    each = np.stack([ask(decoder, embeddings, BOXES, SIZE).double().numpy() for decoder in decoders])
    together = ask_together(Ensemble(tuple(decoders), PromptConfig()), embeddings, BOXES, SIZE, 2).numpy()
    assert each.std(0).max() > 0.2  # they do differ
    assert np.allclose(together, each.mean(0), atol=1e-6)
    of_logits = 1 / (1 + np.exp(-np.log(each.clip(1e-9, 1 - 1e-9) / (1 - each.clip(1e-9, 1 - 1e-9))).mean(0)))
    assert abs(together - of_logits).max() > 0.05


def test_mirrored_slices_are_asked_with_mirrored_boxes_and_their_answers_mirrored_back(decoders, embeddings):
    ensemble, other = Ensemble(tuple(decoders[:2]), PromptConfig()), embeddings.flip(0)
    boxes = SliceBoxes(BOXES.slices, np.array([[34, 4, 60, 40], [31, 8, 62, 20], [0, 0, 44, 48]], np.float32))
    answers = [ask(decoder, embeddings, BOXES, SIZE) for decoder in decoders[:2]]
    for decoder in decoders[:2]:
        answers.append(torch.from_numpy(ask(decoder, other, boxes, SIZE).numpy()[:, :, ::-1].copy()))
    together = ask_together(ensemble, WithMirrored(embeddings, other), BOXES, SIZE)
    assert torch.allclose(together, torch.stack(answers).mean(0), atol=1e-6)


def test_boxes_mirrored_twice_are_the_same():
    assert np.array_equal(mirrored(mirrored(BOXES, 64), 64).boxes, BOXES.boxes)
