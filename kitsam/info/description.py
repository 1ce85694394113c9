"""What is said of a thing: rows for a person, and all of it for a program."""

from dataclasses import dataclass
from typing import Any

Row = tuple[str, str]  # name, text


@dataclass(frozen=True)
class Description:
    kind: str  # bundle, decoder, run, shard set or scan
    rows: list[Row]
    content: dict[str, Any]  # as JSON writes it


def count_text(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def pairs_text(pairs: dict[str, Any]) -> str:
    """Settings in one line."""
    return ", ".join(f"{name} {_plain(value)}" for name, value in pairs.items() if value is not None)


def _plain(value: Any) -> str:
    return " ".join(map(_plain, value)) if isinstance(value, (list, tuple)) else str(value)
