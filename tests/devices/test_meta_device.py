"""The watch itself: what would make a program wait for a GPU fails on it."""

import pytest
import torch
from meta_device import META, Wait, meta_device

from kitsam.system.devices import to_device, to_host

MISTAKES = {
    "a tensor left on the CPU": lambda x: x @ torch.ones(4, 2),
    "an index on the CPU": lambda x: x[torch.tensor([0, 2])],
    "a list as an index": lambda x: x[[0, 2]],
    "a list as an index to write to": lambda x: x.__setitem__([0, 2], 1.0),
    "a mask as an index": lambda x: x[x > 0],
    "a number": lambda x: x[0, 0].item(),
    "a list of numbers": lambda x: x.tolist(),
    "a branch": lambda x: bool(x[0, 0] > 0),
    "a copy to the CPU": lambda x: x.cpu(),
    "a copy that waits": lambda x: torch.ones(3).to(x.device),
    "a copy into a tensor": lambda x: x.copy_(torch.ones(3, 4)),
    "a tensor of numbers": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "another tensor of numbers": lambda x: x.new_tensor([1.0, 2.0]),
    "the backward pass": lambda x: _Careless.apply(x.clone().requires_grad_()).sum().backward(),
}


class _Careless(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x * 2

    @staticmethod
    def backward(context, gradient):
        return gradient * gradient.max().item()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_it_fails_where_a_gpu_would_wait_or_refuse(mistake):
    with pytest.raises((Wait, RuntimeError, NotImplementedError)), meta_device():
        MISTAKES[mistake](torch.zeros(3, 4, device=META))


def test_it_lets_pass_what_waits_for_nothing():
    with meta_device(answer=1) as answers:
        rows = to_device(torch.tensor([0, 2]), META)
        x = torch.zeros(3, 4, device=META)
        x[rows] = 2 * x[rows] + torch.arange(4, device=META) + torch.tensor(1.0)
        assert to_host(x > 1).all()
    assert answers == [(3, 4)]
