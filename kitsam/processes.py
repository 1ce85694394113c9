"""Which device and number format a stage computes with, and which of several processes this is.

Accelerate starts the process group from what `torchrun`, `accelerate launch` or SLURM put into the environment;
on a machine without a GPU it must be told to use the CPU, or it would not take torchrun's processes.
"""

import torch
from accelerate import PartialState

from kitsam.config import Device, Precision
from kitsam.errors import OptionError


def use_cpu(device: Device) -> bool:
    """Raises `OptionError` when a GPU is asked for and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("--device: cuda was asked for, but torch sees no GPU")
    return device == "cpu" or not torch.cuda.is_available()


def start(device: Device) -> PartialState:
    return PartialState(cpu=use_cpu(device))


def use_bfloat16(precision: Precision, device: torch.device) -> bool:
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bf16"


def deal(sizes: list[int], processes: int) -> list[list[int]]:
    """Indices of `sizes` for each process, the sums as even as dealing the largest first makes them."""
    hands: list[list[int]] = [[] for _ in range(processes)]
    loads = [0] * processes
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        lightest = loads.index(min(loads))
        hands[lightest].append(index)
        loads[lightest] += sizes[index]
    return [sorted(hand) for hand in hands]
