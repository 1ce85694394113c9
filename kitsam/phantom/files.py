"""The folder of a made data set: only what `kitsam phantom` made itself is ever written over."""

import gzip
from collections.abc import Collection
from pathlib import Path

import nibabel as nib

from kitsam.ct.phantom_mark import MARK, is_phantom
from kitsam.system.errors import OptionError
from kitsam.system.files import complete_or_absent


def check_folder(out: Path, names: Collection[str]) -> None:
    """Refuse a folder with scans that are not ours to overwrite, or with other cases than the new ones, `names`."""
    if out.exists() and not out.is_dir():
        raise OptionError(f"OUT: not a folder: {out}")
    for entry in sorted(out.iterdir()) if out.exists() else ():
        if entry.name.startswith("."):
            continue  # such as macOS puts into every folder
        if entry.name not in names:
            raise OptionError(
                f"OUT: {out} holds {entry.name}, which is not one of the cases to make; name another folder"
            )
        for path in entry.glob("*.nii*"):
            if not is_phantom(path):
                raise OptionError(f"OUT: {path} was not made by `kitsam phantom`; name another folder")


def write_volume(path: Path, image: nib.Nifti1Image, seed: int, name: str) -> None:
    """Write a case's volume with a mark that says whence it is."""
    # The header has room for 79 letters.
    image.header["descrip"] = f"{MARK}, seed {seed}, {name}".encode()[:79]
    image.header.set_xyzt_units("mm")
    # Level 1: CT noise hardly compresses further, at several times the cost. No time stamp: a case has the same bytes
    # at any time.
    with (
        complete_or_absent(path) as temporary,
        open(temporary, "wb") as file,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as stream,
    ):
        image.to_stream(stream)
