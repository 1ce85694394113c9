"""No command writes over what it was given.

Before any work, the files that a command will write are compared with those it was given. Two paths are one file when
the file system says so (links, hard links, names that differ only in case where case does not count), or when they
lead to the same place. Cost: one look-up for each file.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from kitsam.system.errors import OptionError


def refuse_overwriting(outputs: Iterable[Path], inputs: Iterable[Path | None], option: str = "--out") -> None:
    """Raises `OptionError` naming `option`, an output and the input that it would replace.

    Folders are compared as files are: a folder that was given is not one to write to. An input of None was not given.
    """
    # What is not there cannot be lost.
    present = [path for path in outputs if os.path.lexists(path)]
    given: dict[object, Path] = {}
    for path in inputs if present else ():
        if path is not None:
            given.update(dict.fromkeys(_identities(path), path))
    for path in present:
        for identity in _identities(path):
            if identity in given:
                raise OptionError(f"{option}: {path} would replace what was given, {given[identity]}: choose another")


def files_in(folder: Path) -> list[Path]:
    """All files below a folder, none where it is missing."""
    return [Path(root, name) for root, _, names in os.walk(folder) for name in names]


def _identities(path: Path) -> list[object]:
    """What two names of the same file have in common, at least one of these."""
    place = os.path.normcase(os.path.realpath(path))
    try:
        status = os.stat(path)
    except OSError:
        return [place]
    # Some network file systems number all files 0.
    return [place, (status.st_dev, status.st_ino)] if status.st_ino else [place]
