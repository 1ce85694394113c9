"""What a safetensors file says of its tensors, without reading these: one JSON object, the entry `kitsam`.

Its seal covers the tensors too (`tensors.py`) and is compared only where they are read. Imports no torch.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from kitsam.system.errors import KitsamError
from kitsam.system.seals import SEAL

ENTRY = "kitsam"


def read_header(path: Path) -> dict[str, Any] | None:
    """The entry without its seal; None in a file of another program.

    Raises `KitsamError` naming the file when it is missing or no safetensors file.
    """
    try:
        with safe_open(path, "np") as file:
            text = (file.metadata() or {}).get(ENTRY, "null")
    except (OSError, ValueError, SafetensorError) as error:
        raise KitsamError(f"{path}: cannot be read as safetensors: {error}") from error
    header = parse_header(path, text)
    return None if header is None else {name: value for name, value in header.items() if name != SEAL}


def parse_header(path: Path, text: str) -> dict[str, Any] | None:
    """The entry's text. Raises `KitsamError` naming the file where it is no JSON."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KitsamError(f"{path}: damaged: {error}") from error
    return header if isinstance(header, dict) else None
