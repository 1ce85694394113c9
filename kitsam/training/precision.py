"""The number format of a run: the one that it was begun with, else the one named, else what is faster here."""

import torch

from kitsam.decoding.records import CONFIG
from kitsam.sam.decoder import BoxDecoder
from kitsam.system.files import read_yaml
from kitsam.system.precision import Format, faster_format
from kitsam.system.processes import use_bfloat16
from kitsam.training.config import TrainConfig
from kitsam.training.step import trial_pass

TRIAL_SLICES = 8  # at most, of a step


def run_format(config: TrainConfig, decoder: BoxDecoder, device: torch.device, processes: int) -> Format:
    """In one process: the others must be told. A format that is named and another one begun with is found later."""
    if config.precision != "auto":
        return config.precision
    if (config.out / CONFIG).exists():
        begun = read_yaml(config.out / CONFIG)
        earlier = begun.get("precision") if isinstance(begun, dict) else None
        # "auto" is an older version's, which measured nothing.
        return earlier if earlier in ("fp32", "bf16") else _unmeasured(device)
    share = config.batch_size // processes
    slices = min(share, TRIAL_SLICES)
    repeats = config.steps * share / slices
    unit = f"{slices} slices of a step"

    def work(bfloat16: bool) -> None:
        trial_pass(decoder, slices, device, torch.autocast(device.type, torch.bfloat16, enabled=bfloat16))

    return faster_format(work, repeats, device, unit)


def _unmeasured(device: torch.device) -> Format:
    return "bf16" if use_bfloat16("auto", device) else "fp32"
