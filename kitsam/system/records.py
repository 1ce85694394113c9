"""JSON as typed dataclasses: what a file lacks or holds wrongly is said with the file and the place in it."""

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kitsam.system.errors import KitsamError

T = TypeVar("T")


def read_record(path: Path, kind: type[T], error: type[KitsamError] = KitsamError) -> T:
    """The content of a JSON file as `kind`. Raises `error` naming the file when it is missing or holds other things."""
    try:
        text = path.read_bytes()
    except OSError as reason:
        raise error(f"{path}: cannot be read: {reason.strerror}") from reason
    return decode_record(text, kind, path, error)


def decode_record(text: bytes, kind: type[T], source: object, error: type[KitsamError] = KitsamError) -> T:
    """JSON text as `kind`. Raises `error` naming the source when it holds something else."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as reason:
        raise error(f"{source}: damaged: {reason}") from reason


def as_record(value: Any, kind: type[T], source: object, error: type[KitsamError] = KitsamError) -> T:
    """Dicts and lists, from JSON or YAML, as `kind`. Raises `error` naming the source when they are something else."""
    try:
        return msgspec.convert(value, type=kind)
    except msgspec.MsgspecError as reason:
        raise error(f"{source}: damaged: {reason}") from reason
