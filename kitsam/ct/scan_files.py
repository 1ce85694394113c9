"""Where the scans are that a person names: a file of any format, a DICOM series, a KiTS case, a folder of these.

No scan is opened here, and nothing is imported that takes time, so that a wrong path is refused at once. DICOM files
are known by their first bytes, whatever they are called. Where they lie in several folders, one header of each is
read: folders of one study are one scan, whose series is chosen when it is read (`dicom_series.py`).
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from kitsam.system.errors import OptionError
from kitsam.system.files import sha256_of

IMAGING, SEGMENTATION = "imaging.nii.gz", "segmentation.nii.gz"
NIFTI_ENDINGS = (".nii.gz", ".nii", ".hdr", ".img")  # read by nibabel
ITK_ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")  # read by SimpleITK
ENDINGS = (*NIFTI_ENDINGS, *ITK_ENDINGS)
# Headers whose voxels lie in a file of their own, and the endings of that.
DETACHED = {".hdr": (".img",), ".img": (".hdr",), ".mhd": (".raw", ".zraw"), ".nhdr": (".raw", ".raw.gz")}

# DICOM, part 10: 128 bytes of anything, then DICM. Files without that begin with a tag of group 2 or 8.
PREAMBLE, MAGIC, BARE = 128, b"DICM", (b"\x02\x00", b"\x08\x00")
INSTALL = 'pip install "kitsam[io]"'
SEGMENTATION_ENDING = ".seg.dcm"  # of what `kitsam predict --dicom_seg` writes
INDEX = "DICOMDIR"  # names the files of a CD and holds no slice


@dataclass(frozen=True)
class Scan:
    """The files of one scan."""

    name: str
    path: Path  # the file, or the folder of a DICOM series
    series: tuple[Path, ...] = ()  # the DICOM files of one study; empty where `path` is a file

    @property
    def files(self) -> tuple[Path, ...]:
        """All that it is read from."""
        return self.series or (self.path, *_detached(self.path))

    @property
    def needs_itk(self) -> bool:
        """Whether SimpleITK reads it."""
        return bool(self.series) or self.path.name.lower().endswith(ITK_ENDINGS)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.files)

    def sha256(self) -> str:
        """Of its content: of the file, or of the digests of its files, whatever those are called."""
        digests = sorted(map(sha256_of, self.files))
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def find_files(path: Path, option: str = "CT") -> list[Scan]:
    """The scans that a path means, in order of name.

    Raises `OptionError` naming `option` where it means none, or one that needs a package that is not installed.
    """
    scans = _in_folder(path, option) if path.is_dir() else [_of_file(path, option)]
    for scan in scans:
        if scan.needs_itk and find_spec("SimpleITK") is None:
            raise OptionError(f"{option}: {scan.path}: reading DICOM, NRRD and MetaImage needs: {INSTALL}")
    return scans


def _of_file(path: Path, option: str) -> Scan:
    if not path.is_file():
        raise OptionError(f"{option}: no such file: {path}")
    if not path.name.lower().endswith(ENDINGS):
        if _is_dicom(path):
            raise OptionError(f"{option}: {path}: one slice of a DICOM series: give its folder, {path.parent}")
        raise OptionError(f"{option}: neither NIfTI, NRRD, MetaImage nor DICOM: {path} (read are {', '.join(ENDINGS)})")
    return Scan(stem(path), path)


def stem(path: Path) -> str:
    """A scan's name: that of the file, or of its folder where the file is KiTS's imaging.nii.gz."""
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")
    name = path.name[: len(path.name) - len(ending)].removesuffix("_0000")
    return path.absolute().parent.name if name == "imaging" else name


def _in_folder(folder: Path, option: str) -> list[Scan]:
    if (folder / IMAGING).is_file():
        return [_of_file(folder / IMAGING, option)]
    names = [path for path in _listing(folder) if path.is_file() and path.name.lower().endswith(ENDINGS)]
    whole = [path for path in names if path.suffix != ".img" or path.with_suffix(".hdr") not in names]
    scans = [Scan(stem(path), path) for path in whole if path.name != SEGMENTATION]
    scans += [Scan(path.name, path / IMAGING) for path in _listing(folder) if (path / IMAGING).is_file()]
    scans += _dicom_scans(folder)
    if not scans:
        raise OptionError(
            f"{option}: {folder}: holds neither {IMAGING}, nor DICOM files, nor scans ({', '.join(ENDINGS)}), nor "
            "folders of cases"
        )
    return sorted(scans, key=lambda scan: scan.name)


def _dicom_scans(folder: Path) -> Iterator[Scan]:
    """One for each study below a folder."""
    leaves = {leaf: files for leaf in _folders(folder) if (files := tuple(filter(_is_dicom, _listing(leaf))))}
    for members in _by_study(leaves):
        parent = folder if len(leaves) == len(members) else Path(os.path.commonpath(members))
        name = "_".join(parent.relative_to(folder).parts) or folder.absolute().name
        yield Scan(name, parent, tuple(file for leaf in members for file in leaves[leaf]))


def _by_study(leaves: dict[Path, tuple[Path, ...]]) -> Iterable[list[Path]]:
    """Folders whose first files are of one study; one whose header does not name its study stands for itself."""
    if len(leaves) < 2:
        return [[leaf] for leaf in leaves]
    from kitsam.ct.dicom_series import study_of

    studies: dict[object, list[Path]] = {}
    for leaf, files in leaves.items():
        studies.setdefault(study_of(files[0]) or leaf, []).append(leaf)
    return studies.values()


def _folders(folder: Path) -> Iterator[Path]:
    """A folder and all below it, without hidden ones and KiTS's cases, in order."""
    for root, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(root)


def _listing(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _is_dicom(path: Path) -> bool:
    # A segmentation that `kitsam predict` left below the folder is no part of the scan.
    others = *ENDINGS, SEGMENTATION_ENDING
    if not path.is_file() or path.name.upper() == INDEX or path.name.lower().endswith(others):
        return False
    with open(path, "rb") as file:
        head = file.read(PREAMBLE + len(MAGIC))
    # The second byte of a bare file's first element: no text begins so.
    return head[PREAMBLE:] == MAGIC or (head[:2] in BARE and head[3:4] == b"\x00" and len(head) > PREAMBLE)


def _detached(path: Path) -> list[Path]:
    endings = DETACHED.get(path.suffix.lower(), ())
    return [other for other in (path.with_suffix(ending) for ending in endings) if other.is_file()]
