import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rounding import assert_close_to_rounding, roundings
from tiny import train_config
from training.drawn_samples import ask, samples

from kitsam.decoding.config import PromptConfig
from kitsam.sam.decoder import random_decoder
from kitsam.training.questions import Questions
from kitsam.training.schedule import learning_rate
from kitsam.training.step import train_step, trial_step
from kitsam.training.transfer import on_device

GRID, SLICES = 12, 4  # of cells; a box with all that it may see takes a window of 8


def questions(slices: int = SLICES, seed: int = 0, sight: float | None = None) -> Questions:
    """Two kidneys a slice, a tumor in one."""
    generator = torch.Generator().manual_seed(seed)
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 4:24] = mask[20:40, 40:60] = 1
    mask[24:32, 8:16] = 2
    batch = samples(*[mask] * slices, grid=GRID)
    batch.stored.copy_(torch.randn(batch.stored.shape, generator=generator))
    return ask(batch, "tumor", PromptConfig(sight=sight), seed, 0.3)[0]


def steps(
    cpu: bool, tmp_path, number: int, accumulate: int = 1, sight: float | None = None, forbid_waiting: bool = False
) -> list[torch.Tensor]:
    config = train_config("tumor", tmp_path, tmp_path, steps=100, batch_size=SLICES, accumulate=accumulate)
    AcceleratorState._reset_state(reset_partial_state=True)  # or it would keep to the device it met first
    accelerator = Accelerator(cpu=cpu)
    decoder = random_decoder(GRID, 16 * GRID, 0)
    optimizer = torch.optim.AdamW([weight for weight in decoder.parameters() if weight.requires_grad], fused=True)
    model, optimizer = accelerator.prepare(decoder, optimizer)
    batch = questions(sight=sight)
    batches = (batch if cpu else batch.pinned() for _ in range(number))
    losses = []
    for step, batch in enumerate(on_device(batches, accelerator.device)):
        if forbid_waiting and step == 1:
            torch.cuda.set_sync_debug_mode("error")
        losses.append(
            train_step(
                accelerator, model, optimizer, batch, learning_rate(step, [config.steps], config.optimizer), 2.0, config
            )
        )
    return losses


@pytest.mark.parametrize("sight", [None, 0.1])
def test_the_loss_falls(tmp_path, device, sight):
    losses = steps(device.type == "cpu", tmp_path, 8, sight=sight)
    assert losses[-1][0] < losses[0][0]


@pytest.mark.parametrize("sight", [None, 0.1])
def test_a_batch_in_parts_has_the_loss_of_the_whole(tmp_path, sight):
    whole, parts = (steps(True, tmp_path, 2, accumulate, sight) for accumulate in (1, 3))
    for one, other in zip(whole, parts):
        assert_close_to_rounding(other, one, *roundings(random_decoder(GRID, 16 * GRID, 0), torch.device("cpu")))


def test_a_trial_changes_nothing(tmp_path):
    config = train_config("roi", tmp_path, tmp_path, batch_size=SLICES, accumulate=2)
    decoder = random_decoder(GRID, 16 * GRID, 0)
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    trial_step(Accelerator(cpu=True), decoder, config)
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())
    assert all(weight.grad is None for weight in decoder.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("sight", [None, 0.1])
def test_steps_on_a_gpu_and_the_copies_for_them_wait_for_nothing_and_learn_the_same(tmp_path, sight):
    try:
        there = steps(False, tmp_path, 5, sight=sight, forbid_waiting=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    here = steps(True, tmp_path, 5, sight=sight)
    for ours, theirs in zip(here, there):
        assert_close_to_rounding(
            theirs, ours, *roundings(random_decoder(GRID, 16 * GRID, 0).mask_decoder, torch.device("cuda"))
        )
