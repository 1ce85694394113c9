"""Files of a set that say something else and are whole: as another set would have them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kitsam.system.seals import SEAL, write_sealed


def edit_sealed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the content of a sealed JSON file in place, and seal it again."""
    content = json.loads(path.read_text())
    content.pop(SEAL)
    change(content)
    write_sealed(path, content)


def replace_in_sealed(path: Path, old: str, new: str) -> None:
    content = json.loads(path.read_text().replace(old, new))
    content.pop(SEAL)
    write_sealed(path, content)
