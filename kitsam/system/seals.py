"""JSON files that tell when they were damaged: an entry `seal` holds the SHA-256 of all others.

A flipped bit in a number of a JSON file is still JSON, with another number: nothing but a digest tells. The order of
the entries and white space do not count. A file without a seal, as an older version wrote it, is taken as it is.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from kitsam.system.errors import KitsamError
from kitsam.system.files import read_json, write_json
from kitsam.system.records import as_record

T = TypeVar("T")
SEAL = "seal"


def seal_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of the entries of a JSON object, but for the seal itself; their order does not matter."""
    entries = {name: value for name, value in content.items() if name != SEAL}
    text = json.dumps(entries, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    write_json(path, {**content, SEAL: seal_of(content)})


def read_sealed(path: Path, kind: type[T], error: type[KitsamError] = KitsamError) -> T:
    """The content of a sealed JSON file as `kind`. Raises `error` naming the file when it is missing or damaged."""
    content = read_json(path, error)
    check_seal(content, path, error)
    return as_record(content, kind, path, error)


def check_seal(content: Any, path: object, error: type[KitsamError] = KitsamError) -> None:
    """Raises `error` naming the file where the content has a seal and it does not fit."""
    if isinstance(content, dict) and SEAL in content and content[SEAL] != seal_of(content):
        raise error(f"{path}: damaged: its content does not fit its SHA-256")
