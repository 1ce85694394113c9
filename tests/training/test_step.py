import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rounding import assert_close_to_rounding, roundings
from tiny import train_config

from kitsam.sam.decoder import random_decoder
from kitsam.training.questions import Questions
from kitsam.training.step import train_step, trial_step

GRID, SLICES = 4, 4


def questions() -> Questions:
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand((SLICES, 4 * GRID, 4 * GRID), generator=generator) > 0.8).float()
    return Questions(
        stored=torch.randn((SLICES, 256, GRID, GRID), generator=generator).half(),
        scales=None,
        slice_of_box=torch.arange(SLICES),
        boxes=torch.tensor([[0.0, 0.0, 2.5, 3.0]]).expand(SLICES, -1).contiguous(),
        targets=targets,
        region=torch.ones_like(targets),
        positive=torch.ones(SLICES),
    )


def steps(cpu: bool, tmp_path, number: int, forbid_waiting: bool = False) -> list[torch.Tensor]:
    config = train_config("roi", tmp_path, tmp_path, steps=100, batch_size=SLICES)
    AcceleratorState._reset_state(reset_partial_state=True)  # or it would keep to the device it met first
    accelerator = Accelerator(cpu=cpu)
    decoder = random_decoder(GRID, 16 * GRID, 0)
    optimizer = torch.optim.AdamW([weight for weight in decoder.parameters() if weight.requires_grad], fused=True)
    model, optimizer = accelerator.prepare(decoder, optimizer)
    batch = questions() if cpu else questions().pinned()
    losses = []
    for step in range(number):
        if forbid_waiting and step == number - 1:
            torch.cuda.set_sync_debug_mode("error")
        losses.append(train_step(accelerator, model, optimizer, batch, step, 2.0, config))
    return losses


def test_the_loss_falls(tmp_path, device):
    losses = steps(device.type == "cpu", tmp_path, 8)
    assert losses[-1][0] < losses[0][0]


def test_a_trial_changes_nothing(tmp_path):
    config = train_config("roi", tmp_path, tmp_path, batch_size=SLICES, accumulate=2)
    decoder = random_decoder(GRID, 16 * GRID, 0)
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    trial_step(Accelerator(cpu=True), decoder, config)
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())
    assert all(weight.grad is None for weight in decoder.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_step_on_a_gpu_waits_for_nothing_and_learns_the_same(tmp_path):
    try:
        there = steps(False, tmp_path, 3, forbid_waiting=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    here = steps(True, tmp_path, 3)
    for ours, theirs in zip(here, there):
        assert_close_to_rounding(
            theirs, ours, *roundings(random_decoder(GRID, 16 * GRID, 0).mask_decoder, torch.device("cuda"))
        )
