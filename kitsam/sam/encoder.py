"""SAM's frozen image encoder: slices in, embeddings out.

Five names, one architecture: a ViT with windowed and global attention and a convolutional neck, built by upstream
segment-anything. `vit_b`, `vit_l` and `vit_h` have SAM's official weights. `medsam` has MedSAM's, which were trained on
pixels in 0..1 and not on SAM's mean and standard deviation. `tiny` is a quarter as wide and a third as deep as `vit_b`,
with random weights from a seed: of no use on a patient, enough for trials, tests and the demo.
"""

import hashlib
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kitsam.sam.checkpoints import checkpoint_path, read_checkpoint
from kitsam.sam.config import PATCH, EncoderConfig
from kitsam.sam.upstream import ImageEncoderViT
from kitsam.sam.vit import encode
from kitsam.system.errors import KitsamError
from kitsam.system.files import sha256_of

EMBEDDING_CHANNELS = 256

# Mean and standard deviation of the pixels, 0..255: those of segment-anything, and MedSAM's, which make 0..1 of them.
NORMALIZATIONS = {
    "sam": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
}


@dataclass(frozen=True)
class Architecture:
    """The size of a ViT, and how its input was normalized in training."""

    width: int  # channels of a cell
    depth: int  # layers
    heads: int
    global_layers: tuple[int, ...]  # the others attend in windows
    normalization: str = "sam"


ARCHITECTURES = {
    "vit_b": Architecture(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": Architecture(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": Architecture(1280, 32, 16, (7, 15, 23, 31)),
    "medsam": Architecture(768, 12, 12, (2, 5, 8, 11), "unit"),
    "tiny": Architecture(192, 4, 3, (1, 3)),
}


@dataclass(frozen=True)
class EncoderRecord:
    """Which encoder made an embedding; a decoder works with no other."""

    name: str
    weights_sha256: str  # of the checkpoint file, or of the random weights
    input_size: int  # pixels a side
    seed: int | None = None  # of random weights
    grid: int = 0  # cells a side of an embedding
    normalization: str = ""  # of the pixels, a name in NORMALIZATIONS

    def __post_init__(self) -> None:
        """Records of shard format 1 do not say what follows from their names."""
        object.__setattr__(self, "grid", self.grid or self.input_size // PATCH)
        object.__setattr__(self, "normalization", self.normalization or ARCHITECTURES[self.name].normalization)


class Encoder(nn.Module):
    """Upstream's image encoder, frozen, with the normalization and padding of its input."""

    def __init__(self, name: str, input_size: int) -> None:
        super().__init__()
        architecture = ARCHITECTURES[name]
        self.input_size = input_size
        self.is_compiled = False  # by torch.compile
        self.uses_kernel = False  # flex_attention's, which torch.compile makes, in global layers
        self.vit = ImageEncoderViT(
            img_size=input_size,
            patch_size=PATCH,
            embed_dim=architecture.width,
            depth=architecture.depth,
            num_heads=architecture.heads,
            mlp_ratio=4,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            global_attn_indexes=architecture.global_layers,
            window_size=14,
            out_chans=EMBEDDING_CHANNELS,
        )
        mean, std = NORMALIZATIONS[architecture.normalization]
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, h, w) in 0..255, longer side `input_size` -> embeddings (B, 256, G, G)."""
        normalized = (pixels - self.mean) / self.std
        height, width = pixels.shape[-2:]
        padded = F.pad(normalized, (0, self.input_size - width, 0, self.input_size - height))
        return encode(self.vit, padded, self.is_compiled, self.uses_kernel)


def build_encoder(config: EncoderConfig) -> tuple[Encoder, EncoderRecord]:
    """The encoder with its weights, on the CPU, and its record. Raises `KitsamError` for missing or wrong weights."""
    if config.name == "tiny":
        encoder = _random_encoder(config)
        return encoder, EncoderRecord(config.name, sha256_of_weights(encoder), config.input_size, config.seed)
    path = checkpoint_path(config.name, config.checkpoint)
    encoder = Encoder(config.name, config.input_size)
    state = read_checkpoint(path)
    prefix = "image_encoder."
    weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    try:
        encoder.vit.load_state_dict(weights)
    except RuntimeError as error:
        raise KitsamError(f"{path}: not the weights of {config.name}: {_first_difference(error)}") from error
    return encoder, EncoderRecord(config.name, sha256_of(path), config.input_size)


def _random_encoder(config: EncoderConfig) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Encoder(config.name, config.input_size)


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
