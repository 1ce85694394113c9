"""A device that computes nothing, torch's `meta`, and a watch over what crosses to and from it.

Tensors there have shapes and no numbers. Work on it fails where it would fail or wait on a GPU: a tensor left on the
CPU, a look at a number (`item`, `tolist`, a branch, a mask as an index), numbers sent without `to_device`. What it
cannot see is in CONTRIBUTING.md. It refuses float64 too, which Apple's GPUs lack.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")
COPIES = torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default
FROM_NUMBERS = torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor
INDEXING = Tensor.__getitem__, Tensor.__setitem__


class Wait(AssertionError):
    """Where a GPU and the program would wait for one another, or a GPU would refuse."""


@contextmanager
def meta_device(answer: float | None = None) -> Iterator[list[tuple[int, ...]]]:
    """Yield the shapes of what was copied back; such a copy is full of `answer`, and without one an error."""
    answers: list[tuple[int, ...]] = []
    with patch.object(torch, "autocast", _autocast), _Transfers(answer, answers), _Indices():
        yield answers


def _autocast(device_type: str, *args, **options):
    # torch knows no autocast on meta.
    return nullcontext() if device_type == "meta" else _AUTOCAST(device_type, *args, **options)


_AUTOCAST = torch.autocast


class _Transfers(TorchDispatchMode):
    """Sees each operation of torch, those of the backward pass and of the optimizer too."""

    def __init__(self, answer: float | None, answers: list[tuple[int, ...]]) -> None:
        super().__init__()
        self.answer, self.answers = answer, answers

    def __torch_dispatch__(self, function, types, args=(), options=None):
        options = options or {}
        tensors = [leaf for leaf in tree_leaves((args, options)) if isinstance(leaf, Tensor)]
        if function in COPIES:
            return self._copy(function, args, options)
        places = {tensor.device.type for tensor in tensors if tensor.dim()}
        if len(places) > 1:
            raise Wait(f"{function}: of tensors on {' and '.join(sorted(places))}")
        result = function(*args, **options)
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.device.type == "meta"]
        if any(tensor.dtype == torch.float64 for tensor in made):
            raise Wait(f"{function}: of float64, which not every device has")
        return result

    def _copy(self, function, args, options):
        source = args[1] if function is torch.ops.aten.copy_.default else args[0]
        target = args[0].device if function is torch.ops.aten.copy_.default else options.get("device") or source.device
        waits = not (options.get("non_blocking") or (len(args) > 2 and args[2]))
        if source.device.type == "cpu" and target.type == "meta" and waits:
            raise Wait("a copy to the device that waits for it")
        if source.device.type == "meta" and target.type == "cpu":
            if self.answer is None:
                raise Wait("a copy from the device")
            self.answers.append(tuple(source.shape))
            return torch.full(source.shape, self.answer, dtype=options.get("dtype") or source.dtype)
        return function(*args, **options)


class _Indices(TorchFunctionMode):
    """Sees numbers that torch itself would send to the device: on meta it leaves them out."""

    def __torch_function__(self, function, types, args=(), options=None):
        result = function(*args, **(options or {}))
        if function in FROM_NUMBERS and result.device.type == "meta" and not isinstance(args[0], torch.nn.Parameter):
            raise Wait("numbers of the program made a tensor on the device")
        if function in INDEXING and args[0].device.type == "meta":
            parts = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, list | np.ndarray) for part in parts):
                raise Wait("a list as an index of a tensor on the device")
        return result
