"""Where a case comes from, as far as its files tell: drawn or rendered by kitsam, of KiTS23, or another scan.

`kitsam phantom` leaves a mark in the header of each file that it writes. A case of KiTS23 is known by its name together
with its voxels of kidney, tumor and cyst; `kits23.txt` has a digest of these for each of the 489 training cases. So
labels of KiTS19 and KiTS21, slices cut from a scan, and other data under the same names are told apart. A CT rendered
over the labels of KiTS23 bears the mark, which comes first.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import nibabel as nib

from kitsam.ct.volume import UNREADABLE

Origin = Literal["drawn", "rendered", "kits23", "scan"]
MARKS: dict[Origin, str] = {"drawn": "kitsam phantom", "rendered": "kitsam phantom --labels"}
DIGITS = 8  # of a digest: that another case has one of the 489 happens once in nine million


def mark_of(path: Path) -> Origin | None:
    """Whether `kitsam phantom` wrote the file; None where it did not, or where that cannot be read."""
    try:
        description = nib.load(path).header["descrip"].item().decode("latin-1")
    except (*UNREADABLE, KeyError, ValueError):
        return None
    # The longer mark begins with the shorter one.
    return next((origin for origin in ("rendered", "drawn") if description.startswith(MARKS[origin])), None)


def origin_of(name: str, path: Path, voxels: Sequence[int]) -> Origin:
    """Of a case with the NIfTI file `path` and so many voxels of kidney, tumor and cyst."""
    is_kits23 = kits23_digest(name, voxels) in _kits23_digests()
    mark = mark_of(path)
    if mark:
        # Before CTs were rendered under a mark of their own, they had that of drawn ones.
        return "rendered" if is_kits23 else mark
    return "kits23" if is_kits23 else "scan"


def kits23_digest(name: str, voxels: Sequence[int]) -> str:
    text = " ".join([name, *map(str, voxels)])
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:DIGITS]


@cache
def _kits23_digests() -> frozenset[str]:
    return frozenset(files(__package__).joinpath("kits23.txt").read_text("ascii").split())
