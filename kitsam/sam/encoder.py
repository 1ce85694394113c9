"""SAM's frozen image encoder: slices in, embeddings out.

Seven names, two architectures. `vit_b`, `vit_l` and `vit_h` are upstream's ViT, with windowed and global attention,
and SAM's official weights; `medsam` is `vit_b` with MedSAM's, which were trained on pixels in 0..1 and not on SAM's
mean and standard deviation. `lite_medsam` and `mobile_sam` are MedSAM and SAM distilled into a TinyViT. `tiny` is a
quarter as wide and a third as deep as `vit_b`, with random weights from a seed: of no use on a patient, enough for
trials, tests and the demo.

Each was trained with one input size. Others are possible: a ViT's positions are interpolated, a TinyViT's windows know
none. All embeddings have 256 channels and as many cells a side as the input has strides.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kitsam.sam.checkpoints import checkpoint_path, read_checkpoint
from kitsam.sam.config import INPUTS, EncoderConfig
from kitsam.sam.tiny_vit import PatchEmbedding, TinyViT, folded
from kitsam.sam.upstream import ImageEncoderViT
from kitsam.sam.vit import encode, with_positions_for
from kitsam.system.errors import KitsamError
from kitsam.system.files import sha256_of

EMBEDDING_CHANNELS = 256
VIT_PATCH = INPUTS["vit_b"].stride

# Of pixels in 0..255. By mean and standard deviation: those of segment-anything, and MedSAM's, which make 0..1 of them;
# or to 0..1 by the slice's own minimum and maximum, as LiteMedSAM's authors do before they fill up the square with 0.
Normalization = Literal["sam", "unit", "slice"]
MEAN_AND_STD = {
    "sam": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "slice": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
GRAY_LEVEL = 1.0  # a slice whose pixels differ by less is blank, as in the 8-bit pictures of LiteMedSAM's training


@dataclass(frozen=True)
class ViTSize:
    """The size of upstream's ViT."""

    width: int  # channels of a cell
    depth: int  # layers
    heads: int
    global_layers: tuple[int, ...]  # the others attend in windows


@dataclass(frozen=True)
class Architecture:
    """What an encoder is made of, and how its input was normalized in training."""

    network: ViTSize | PatchEmbedding
    normalization: Normalization = "sam"


VIT_B = ViTSize(768, 12, 12, (2, 5, 8, 11))

ARCHITECTURES = {
    "vit_b": Architecture(VIT_B),
    "vit_l": Architecture(ViTSize(1024, 24, 16, (5, 11, 17, 23))),
    "vit_h": Architecture(ViTSize(1280, 32, 16, (7, 15, 23, 31))),
    "medsam": Architecture(VIT_B, "unit"),
    "lite_medsam": Architecture(PatchEmbedding(kernel=1, stride=1), "slice"),
    "mobile_sam": Architecture(PatchEmbedding(kernel=3, stride=2)),
    "tiny": Architecture(ViTSize(192, 4, 3, (1, 3))),
}


@dataclass(frozen=True)
class EncoderRecord:
    """Which encoder made an embedding; a decoder works with no other."""

    name: str
    weights_sha256: str  # of the checkpoint file, or of the random weights
    input_size: int  # pixels a side
    seed: int | None = None  # of random weights
    grid: int = 0  # cells a side of an embedding
    normalization: str = ""  # of the pixels

    def __post_init__(self) -> None:
        """Records of shard format 1 do not say what follows from their names."""
        object.__setattr__(self, "grid", self.grid or self.input_size // INPUTS[self.name].stride)
        object.__setattr__(self, "normalization", self.normalization or ARCHITECTURES[self.name].normalization)


class Encoder(nn.Module):
    """An image encoder, frozen, with the normalization and padding of its input."""

    def __init__(self, name: str, input_size: int) -> None:
        super().__init__()
        architecture = ARCHITECTURES[name]
        self.name, self.input_size, self.normalization = name, input_size, architecture.normalization
        self.is_compiled = False  # by torch.compile
        self.uses_kernel = False  # flex_attention's, which torch.compile makes, in global layers
        self.vit = _network(architecture.network, input_size)
        mean, std = MEAN_AND_STD[self.normalization]
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, h, w) in 0..255, longer side `input_size` -> embeddings (B, 256, G, G)."""
        normalized = _own_range(pixels) if self.normalization == "slice" else (pixels - self.mean) / self.std
        height, width = pixels.shape[-2:]
        padded = F.pad(normalized, (0, self.input_size - width, 0, self.input_size - height))
        if isinstance(self.vit, TinyViT):
            return self.vit(padded, self.is_compiled)
        return encode(self.vit, padded, self.is_compiled, self.uses_kernel)

    def load(self, state: dict[str, Tensor], source: object) -> None:
        """The image encoder's weights of a SAM checkpoint. Raises `KitsamError` naming `source` where they differ."""
        prefix = "image_encoder."
        weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        weights = folded(weights) if isinstance(self.vit, TinyViT) else with_positions_for(self.vit, weights)
        self.load_own(weights, source)

    def load_own(self, weights: dict[str, Tensor], source: object) -> None:
        """Weights as `self.vit` names them. Raises `KitsamError` naming `source` where they differ."""
        try:
            self.vit.load_state_dict(weights)
        except RuntimeError as error:
            raise KitsamError(f"{source}: not the weights of {self.name}: {_first_difference(error)}") from error


def _network(network: ViTSize | PatchEmbedding, input_size: int) -> ImageEncoderViT | TinyViT:
    if isinstance(network, PatchEmbedding):
        return TinyViT(network, EMBEDDING_CHANNELS)
    return ImageEncoderViT(
        img_size=input_size,
        patch_size=VIT_PATCH,
        embed_dim=network.width,
        depth=network.depth,
        num_heads=network.heads,
        mlp_ratio=4,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        global_attn_indexes=network.global_layers,
        window_size=14,
        out_chans=EMBEDDING_CHANNELS,
    )


def _own_range(pixels: Tensor) -> Tensor:
    """(B, 3, h, w) -> the same in 0..1, each slice by its own minimum and maximum."""
    low, high = (part.view(-1, 1, 1, 1) for part in pixels.flatten(1).aminmax(dim=1))
    return (pixels - low) / (high - low).clamp(min=GRAY_LEVEL)


def build_encoder(config: EncoderConfig) -> tuple[Encoder, EncoderRecord]:
    """The encoder with its weights, on the CPU, and its record. Raises `KitsamError` for missing or wrong weights."""
    if config.name == "tiny":
        encoder = _random_encoder(config)
        return encoder, EncoderRecord(config.name, sha256_of_weights(encoder), config.side, config.seed)
    path = checkpoint_path(config.name, config.checkpoint)
    encoder = Encoder(config.name, config.side)
    encoder.load(read_checkpoint(path), path)
    return encoder, EncoderRecord(config.name, sha256_of(path), config.side)


def _random_encoder(config: EncoderConfig) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Encoder(config.name, config.side)


def sha256_of_weights(encoder: Encoder) -> str:
    """A hash of the names and values of all weights, in hexadecimal."""
    digest = hashlib.sha256()
    for name, value in sorted(encoder.vit.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _first_difference(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return (lines[1] if len(lines) > 1 else lines[0])[:200]
