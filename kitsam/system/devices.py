"""To a device and back: a program waits for its GPU where it reads the answers of a batch, and nowhere on the way.

To look at a tensor's numbers, or to send some without `to_device` (a list as an index, `new_tensor`), makes the program
wait until the GPU has done all that was asked of it, and the GPU then wait for the program.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A GPU copies by itself, from pinned memory that torch keeps until then: do not change `tensor` meanwhile."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def to_host(answers: Tensor) -> np.ndarray:
    """Waits until they are computed."""
    return answers.cpu().numpy()


class SideStream:
    """Copies to or from a GPU beside its work, for which neither it nor the program that gives it work waits.

    On a CPU nothing is copied.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def to_device(self, tensor: Tensor) -> Tensor:
        """From a thread that may wait until it is there. It is for the stream that is current now."""
        if self.stream is None:
            return tensor.to(self.device)
        user = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.stream):
            copy = tensor.to(self.device)  # from memory that is not pinned: done when this returns
        copy.record_stream(user)
        return copy

    def to_host(self, answers: Tensor) -> Callable[[], np.ndarray]:
        """Begins a copy of what the current stream will have computed. Returns a function that waits for it."""
        if self.stream is None:
            return lambda: to_host(answers)
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream), torch.inference_mode():
            copy = torch.empty(answers.shape, dtype=answers.dtype, pin_memory=True)
            copy.copy_(answers, non_blocking=True)
            done = torch.cuda.Event(blocking=True)
            done.record()
        answers.record_stream(self.stream)

        def wait() -> np.ndarray:
            done.synchronize()
            return copy.numpy()

        return wait
