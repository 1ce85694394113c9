"""Options of the frozen encoder and of its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kitsam.system.errors import OptionError
from kitsam.system.options import Options, count, number, place, positional, spelling

EncoderName = Literal["vit_b", "vit_l", "vit_h", "medsam", "tiny"]

PATCH = 16  # input pixels a side of one embedding cell
SAM_INPUT = 1024  # pixels a side, fixed by the positions stored in SAM's checkpoints


@dataclass
class EncoderConfig(Options, section="encoder"):
    """The frozen SAM image encoder."""

    name: EncoderName = "vit_b"
    """vit_b, vit_l, vit_h: SAM's official checkpoints; medsam: MedSAM's weights; tiny: small and random, for trials"""
    checkpoint: Path | None = place("file", None)
    """weights to use instead of those that `kitsam weights` cached"""
    input_size: int = count(SAM_INPUT)
    """pixels a side that a slice is resized to; only `tiny` takes others than 1024, in steps of 16"""
    seed: int = number(0, least=0, most=2**63 - 1)
    """of the random weights of `tiny`"""

    def check(self) -> None:
        if self.name != "tiny" and self.input_size != SAM_INPUT:
            raise OptionError(f"{self.option('input_size')}: {self.name} takes {SAM_INPUT} only, not {self.input_size}")
        if self.input_size % PATCH:
            raise OptionError(f"{self.option('input_size')}: must be a multiple of {PATCH}, not {self.input_size}")


@dataclass
class WeightsConfig(Options):
    """Fetch an encoder's checkpoint into the cache, and check it."""

    name: Literal["vit_b", "vit_l", "vit_h", "medsam"] = positional()
    """which encoder"""
    source: str | None = spelling("from", None)
    """URL or file to take it from instead of the official address (`--from`)"""
