"""To a device and back: a program waits for its GPU where it reads the answers of a batch, and nowhere on the way.

To look at a tensor's numbers, or to send some without `to_device` (a list as an index, `new_tensor`), makes the program
wait until the GPU has done all that was asked of it, and the GPU then wait for the program.
"""

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
