"""Tensors by name in one safetensors file, complete or absent."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kitsam.system.errors import KitsamError
from kitsam.system.files import complete_or_absent


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Raises `KitsamError` naming `path` when it cannot be written."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with complete_or_absent(path) as temporary:
            save_file(state, temporary, metadata)
    except SafetensorError as error:
        raise KitsamError(f"{path}: cannot be written: {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Raises `KitsamError` naming the file when it is missing or no safetensors file."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise KitsamError(f"{path}: cannot be read as safetensors: {error}") from error
