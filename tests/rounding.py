"""How far two ways to the same numbers may lie apart: as far as floating point rounds, on any processor.

Each processor adds up a sum in its own order, and every addition rounds. Roundings go up and down by chance: after n of
them, one upon another, the error is at most about sqrt(n) roundings of the largest number. A wrong program (a bias left
out, a head scaled, a box of another slice) is hundreds of times as far off.
"""

from typing import Any

import torch
from torch import Tensor, nn

# One for the sums of either way. Processors add up many short sums rather than a long one, so that the tests reach an
# eighth of this limit at most (on an x86 with AVX-512).
SAFETY = 2.0
# A GPU convolves float32 as TF32, whose numbers have as many bits as float16's, and adds up the products in float32.
TF32 = torch.float16
CONVOLUTIONS = nn.Conv2d, nn.ConvTranspose2d


def assert_close_to_rounding(
    actual: Any, expected: Any, operations: int, precision: torch.dtype = torch.float32, size: float | None = None
) -> None:
    """`operations`: additions one upon another on the way to a number; `precision`: the coarsest format on the way;
    `size`: the largest number on the way, where it is far from the largest of `expected`.
    """
    actual, expected = _numbers(actual), _numbers(expected)
    assert actual.shape == expected.shape
    limit = rounding_of(size or expected.abs().max().item(), operations, precision)
    difference = (actual - expected).abs().max().item()
    assert difference <= limit, f"{difference:.3g} apart; rounding explains {limit:.3g}"


def rounding_of(size: float, operations: int, precision: torch.dtype = torch.float32) -> float:
    """The largest error that `operations` roundings of numbers up to `size` explain."""
    return SAFETY * torch.finfo(precision).eps * operations**0.5 * size


def roundings(module: nn.Module, device: torch.device, cells: int = 0) -> tuple[int, torch.dtype]:
    """`operations` and `precision` of a way through a network: on a GPU its convolutions round most."""
    if device.type == "cuda":
        return sum(isinstance(part, CONVOLUTIONS) for part in module.modules()), TF32
    return additions(module, cells), torch.float32


def additions(module: nn.Module, cells: int = 0) -> int:
    """At most so many on a way through the module: each weight adds up its inputs, attention's softmax `cells` more."""
    return cells + sum(weight[0].numel() for weight in module.parameters() if weight.dim() > 1)


def _numbers(values: Any) -> Tensor:
    return torch.as_tensor(values).detach().double().cpu()
