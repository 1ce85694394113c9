"""Tensors by name in one safetensors file, complete or absent, with a digest that tells when it was damaged.

What is said of the tensors is one JSON object, the entry `kitsam` of the file's metadata; several entries would come
in a random order, and the same tensors would not give the same bytes. Its `seal` is the SHA-256 of the rest of it and
of names, types, shapes and numbers of all tensors: a flipped bit in a weight is still a weight. Cost: some 0.7 s a
GiB. A file without one is taken as it is: other programs write none.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kitsam.system.errors import KitsamError
from kitsam.system.files import complete_or_absent
from kitsam.system.seals import SEAL, seal_of
from kitsam.system.tensor_headers import ENTRY, parse_header


class TensorFile(NamedTuple):
    """The content of a safetensors file."""

    tensors: dict[str, Tensor]
    header: dict[str, Any] | None  # what is said of them; None in a file of another program


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any] | None = None) -> None:
    """Raises `KitsamError` naming `path` when it cannot be written."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = dict(header or {})
    text = json.dumps({**header, SEAL: digest_of(state, header)})
    try:
        with complete_or_absent(path) as temporary:
            save_file(state, temporary, {ENTRY: text})
    except SafetensorError as error:
        raise KitsamError(f"{path}: cannot be written: {error}") from error


def read_tensors(path: Path) -> TensorFile:
    """Raises `KitsamError` naming the file when it is missing, no safetensors file, or damaged."""
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(ENTRY, "null")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (OSError, ValueError, SafetensorError) as error:
        raise KitsamError(f"{path}: cannot be read as safetensors: {error}") from error
    header = parse_header(path, text)
    seal = header.pop(SEAL, None) if header else None
    if seal is not None and seal != digest_of(tensors, header):
        raise KitsamError(f"{path}: damaged: its content does not fit its SHA-256")
    return TensorFile(tensors, header)


def digest_of(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """SHA-256 of the tensors, on the CPU and contiguous, and of what is said of them."""
    digest = hashlib.sha256(seal_of(header).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
