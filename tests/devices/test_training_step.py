from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from meta_device import META, meta_device
from tiny import train_config
from training.drawn_samples import ask, samples

from kitsam.decoding.config import PromptConfig
from kitsam.sam.decoder import random_decoder
from kitsam.training.questions import Questions
from kitsam.training.schedule import learning_rate
from kitsam.training.step import train_step, trial_step

GRID, SLICES = 4, 6


def questions(stored: torch.dtype, target: str) -> Questions:
    """Slice 1 has two kidneys, and no slice the size of the others."""
    masks = [np.ones((40 + z, 60 - z), np.uint8) for z in range(SLICES)]
    masks[1][:, 20:40] = 0
    questions = ask(samples(*masks, grid=GRID), target, PromptConfig(), shift=0.2)[0]
    scales = torch.ones(SLICES, 256) if stored == torch.int8 else None
    return replace(questions, stored=questions.stored.to(stored), scales=scales)


@pytest.fixture
def accelerator(monkeypatch):
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(Accelerator, "device", META)
    return accelerator


@pytest.mark.parametrize(
    ("target", "stored", "accumulate"),
    [("roi", torch.int8, 1), ("roi", torch.float16, 2), ("tumor", torch.float16, 1), ("tumor", torch.int8, 4)],
)
def test_a_step_waits_for_nothing(accelerator, tmp_path, target, stored, accumulate):
    config = train_config(target, tmp_path, tmp_path, batch_size=SLICES, accumulate=accumulate)
    decoder = random_decoder(GRID, 16 * GRID, 0).to(META)
    weights = [weight for weight in decoder.parameters() if weight.requires_grad]
    # A GPU's is fused, which torch does not have on meta.
    optimizer = torch.optim.AdamW(weights, foreach=True)
    batch = questions(stored, target)
    with meta_device():
        for step in range(2):
            losses = train_step(
                accelerator,
                decoder,
                optimizer,
                batch.to(META),
                learning_rate(step, [config.steps], config.optimizer),
                2.0,
                config,
            )
    assert losses.shape == (3,) and losses.device == META


def test_a_trial_of_a_step_waits_for_nothing(accelerator, tmp_path):
    config = train_config("roi", tmp_path, tmp_path, batch_size=SLICES, accumulate=2)
    decoder = random_decoder(GRID, 16 * GRID, 0).to(META)
    with meta_device():
        trial_step(accelerator, decoder, config)
