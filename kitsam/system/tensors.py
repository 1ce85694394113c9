"""Tensors by name in one safetensors file, complete or absent, with a digest that tells when it was damaged.

The digest stands in the header's metadata and is taken over the other metadata and over names, types, shapes and
numbers of all tensors: a flipped bit in a weight is still a weight. Cost: some 0.7 s a GiB. A file without one is
taken as it is: other programs write none.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kitsam.system.errors import KitsamError
from kitsam.system.files import complete_or_absent

DIGEST = "sha256"


class TensorFile(NamedTuple):
    """The content of a safetensors file."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Raises `KitsamError` naming `path` when it cannot be written."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = dict(metadata or {})
    try:
        with complete_or_absent(path) as temporary:
            save_file(state, temporary, {**metadata, DIGEST: digest_of(state, metadata)})
    except SafetensorError as error:
        raise KitsamError(f"{path}: cannot be written: {error}") from error


def read_tensors(path: Path) -> TensorFile:
    """Raises `KitsamError` naming the file when it is missing, no safetensors file, or damaged."""
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (OSError, ValueError, SafetensorError) as error:
        raise KitsamError(f"{path}: cannot be read as safetensors: {error}") from error
    digest = metadata.pop(DIGEST, None)
    if digest is not None and digest != digest_of(tensors, metadata):
        raise KitsamError(f"{path}: damaged: its content does not fit its SHA-256")
    return TensorFile(tensors, metadata)


def digest_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of the tensors, on the CPU and contiguous, and of the metadata."""
    digest = hashlib.sha256()
    for name, text in sorted(metadata.items()):
        digest.update(f"{name}\0{text}\0".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
