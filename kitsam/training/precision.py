"""The number format of a run: the one that it was begun with, else the one named, else what is faster here."""

import torch

from kitsam.decoding.runs import CONFIG
from kitsam.sam.decoder import BoxDecoder
from kitsam.sam.encoder import EMBEDDING_CHANNELS
from kitsam.system.files import read_yaml
from kitsam.system.precision import Format, faster_format
from kitsam.system.processes import use_bfloat16
from kitsam.training.config import TrainConfig

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
    return faster_format(lambda bfloat16: _trial(decoder, slices, bfloat16), repeats, device, unit)


def _unmeasured(device: torch.device) -> Format:
    return "bf16" if use_bfloat16("auto", device) else "fp32"


def _trial(decoder: BoxDecoder, slices: int, bfloat16: bool) -> None:
    """Forward and backward on blank slices with two kidneys on each; nothing is changed."""
    embeddings = torch.zeros(slices, EMBEDDING_CHANNELS, decoder.grid, decoder.grid)
    rows = torch.arange(slices).repeat(2)
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(len(rows), -1)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        logits = decoder(embeddings, rows, boxes)
    torch.autograd.grad(logits.sum(), [weight for weight in decoder.parameters() if weight.requires_grad])
