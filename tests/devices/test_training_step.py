import pytest
import torch
from accelerate import Accelerator
from meta_device import META, meta_device
from tiny import train_config

from kitsam.sam.decoder import random_decoder
from kitsam.training.questions import Questions
from kitsam.training.step import train_step, trial_step

GRID, SLICES = 4, 6


def questions(stored: torch.dtype) -> Questions:
    """Slice 1 has two boxes."""
    boxes = SLICES + 1
    targets = torch.rand(boxes, 4 * GRID, 4 * GRID)
    return Questions(
        stored=torch.ones(SLICES, 256, GRID, GRID).to(stored),
        scales=torch.ones(SLICES, 256) if stored == torch.int8 else None,
        slice_of_box=torch.tensor([0, 1, 1, 2, 3, 4, 5]),
        boxes=torch.tensor([[0.0, 0.0, 40.0, 50.0]]).repeat(boxes, 1),
        targets=targets,
        region=torch.ones_like(targets),
        positive=torch.ones(boxes),
    )


@pytest.fixture
def accelerator(monkeypatch):
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(Accelerator, "device", META)
    return accelerator


@pytest.mark.parametrize("stored", [torch.float16, torch.int8])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_a_step_waits_for_nothing(accelerator, tmp_path, stored, accumulate):
    config = train_config("roi", tmp_path, tmp_path, batch_size=SLICES, accumulate=accumulate)
    decoder = random_decoder(GRID, 16 * GRID, 0).to(META)
    weights = [weight for weight in decoder.parameters() if weight.requires_grad]
    # A GPU's is fused, which torch does not have on meta.
    optimizer = torch.optim.AdamW(weights, foreach=True)
    with meta_device():
        for step in range(2):
            losses = train_step(accelerator, decoder, optimizer, questions(stored), step, 2.0, config)
    assert losses.shape == (3,) and losses.device == META


def test_a_trial_of_a_step_waits_for_nothing(accelerator, tmp_path):
    config = train_config("roi", tmp_path, tmp_path, batch_size=SLICES, accumulate=2)
    decoder = random_decoder(GRID, 16 * GRID, 0).to(META)
    with meta_device():
        trial_step(accelerator, decoder, config)
