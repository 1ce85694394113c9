"""`python old_listing.py COMMAND ...`: kitsam in a process to which listings of a folder leave out what is newest.

A test double of a network file system that shows one machine an older state than it shows the others. OLD_LISTING_RANK
names the process, OLD_LISTING_HIDES the paths, one a line, that no listing shows; opened by name they are there.
"""

import os
import sys
from pathlib import Path

HIDDEN = set(filter(None, os.environ["OLD_LISTING_HIDES"].split("\n")))
listdir, scandir = os.listdir, os.scandir


def is_hidden(folder: object, name: str) -> bool:
    return str(Path(os.fspath(folder), name).absolute()) in HIDDEN


def old_listdir(folder=".") -> list[str]:
    return [name for name in listdir(folder) if isinstance(folder, int) or not is_hidden(folder, name)]


class OldEntries:
    """What `os.scandir` gives, without the hidden ones."""

    def __init__(self, folder) -> None:
        self.entries, self.folder = scandir(folder), folder

    def __iter__(self):
        return self

    def __next__(self) -> os.DirEntry:
        entry = next(self.entries)
        while not isinstance(self.folder, int) and is_hidden(self.folder, entry.name):
            entry = next(self.entries)
        return entry

    def __enter__(self):
        return self

    def __exit__(self, *exception: object) -> None:
        self.entries.close()

    def close(self) -> None:
        self.entries.close()


if __name__ == "__main__":
    if os.environ.get("RANK") == os.environ["OLD_LISTING_RANK"]:
        os.listdir, os.scandir = old_listdir, lambda folder=".": OldEntries(folder)
    from kitsam.cli import main

    sys.exit(main())
