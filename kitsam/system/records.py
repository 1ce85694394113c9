"""JSON as typed dataclasses, checked on the way in: what a file lacks or holds wrongly is said with its place in the file."""

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kitsam.system.errors import KitsamError

T = TypeVar("T")


def read_record(path: Path, kind: type[T], error: type[KitsamError] = KitsamError) -> T:
    """The content of a JSON file as `kind`. Raises `error` naming the file when it is missing or holds something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as reason:
        raise error(f"{path}: cannot be read: {reason.strerror}") from reason
    except (msgspec.MsgspecError, UnicodeDecodeError) as reason:
        raise error(f"{path}: damaged: {reason}") from reason


def decode_record(text: bytes | str, kind: type[T], source: object, error: type[KitsamError] = KitsamError) -> T:
    """JSON text as `kind`. Raises `error` naming the source when it holds something else."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as reason:
        raise error(f"{source}: damaged: {reason}") from reason


def as_record(value: Any, kind: type[T], source: object, error: type[KitsamError] = KitsamError) -> T:
    """What JSON or YAML gave, dicts and lists, as `kind`. Raises `error` naming the source when it is something else."""
    try:
        return msgspec.convert(value, type=kind)
    except msgspec.MsgspecError as reason:
        raise error(f"{source}: damaged: {reason}") from reason
