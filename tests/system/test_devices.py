"""Copies beside a GPU's work: what was computed, and nobody waits on the way."""

import pytest
import torch

from kitsam.system.devices import SideStream

CPU = torch.device("cpu")


def test_on_a_cpu_nothing_is_copied():
    numbers = torch.arange(6.0).view(2, 3)
    side = SideStream(CPU)
    assert side.to_device(numbers) is numbers
    assert side.to_host(numbers)().tolist() == numbers.tolist()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_s_answers_are_those_that_it_had_been_asked_for():
    device = torch.device("cuda")
    there, back = SideStream(device), SideStream(device)
    numbers = [there.to_device(torch.randn(2000, 2000)) for _ in range(8)]
    expected = [(one @ one).cpu().numpy() for one in numbers]
    torch.cuda.set_sync_debug_mode("error")
    try:
        answers = [back.to_host(one @ one) for one in numbers]  # each product's memory is given back at once
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all((answer() == product).all() for answer, product in zip(answers, expected))
