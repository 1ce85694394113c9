"""The mark that `kitsam phantom` leaves in its scans, so that no figure of theirs passes for one of patients."""

from pathlib import Path

import nibabel as nib

from kitsam.ct.volume import UNREADABLE

MARK = "kitsam phantom"  # in the header's description


def is_phantom(path: Path) -> bool:
    try:
        description = nib.load(path).header["descrip"].item()
    except UNREADABLE:
        return False
    return description.startswith(MARK.encode())
