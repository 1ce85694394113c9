"""Where the cases of a data set are, in the two layouts that are read. Files are not opened, but for `dataset.json`.

KiTS: a folder a case, `case_00000/imaging.nii.gz` and `segmentation.nii.gz`. nnU-Net: `imagesTr/NAME_0000.nii.gz` and
`labelsTr/NAME.nii.gz`; `dataset.json` says what else there is to know, and where it lists the training cases, those are
the cases. What is meant as a case but cannot be one is a case with a problem, so that a command names it; what is no
case, but might be taken for one, is a note. Hidden files (`.x`, macOS's `._x`) are neither.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kitsam.ct.labels import CYST, KIDNEY, TUMOR
from kitsam.system.errors import OptionError
from kitsam.system.files import read_json
from kitsam.system.records import as_record

IMAGING, SEGMENTATION, DATASET = "imaging.nii.gz", "segmentation.nii.gz", "dataset.json"
KITS_NAME = re.compile(r"case_\d+")
ENDINGS = (".nii.gz", ".nii")
LABEL_VALUES = {"kidney": KIDNEY, "tumor": TUMOR, "tumour": TUMOR, "cyst": CYST}
NAMED = 5  # of many, in a note


@dataclass(frozen=True)
class CaseFiles:
    """Where a case is on disk."""

    name: str
    imaging: Path
    segmentation: Path
    problem: str = ""  # why it cannot be used, whatever its files hold


@dataclass(frozen=True)
class Found:
    """Cases in no order, and what a person should know of the rest."""

    cases: list[CaseFiles] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def kits_cases(data: Path) -> Found:
    found = Found()
    for folder in _visible(data):
        files = CaseFiles(folder.name, folder / IMAGING, folder / SEGMENTATION)
        meant = KITS_NAME.fullmatch(folder.name) is not None
        try:
            names = {*os.listdir(folder)}
        except NotADirectoryError:
            continue
        except FileNotFoundError:
            # A link that leads nowhere; a name with an ending is a file's.
            if "." not in folder.name:
                problem = f"{folder}: a link to {os.readlink(folder)}, which is not there"
                found.cases.append(replace(files, problem=problem))
            continue
        except OSError as error:
            problem = f"{folder}: cannot be read: {error.strerror}"
            if meant:
                found.cases.append(replace(files, problem=problem))
            else:
                found.notes.append(problem)
            continue
        if names & {IMAGING, SEGMENTATION}:
            found.cases.append(files)
        elif meant:
            found.cases.append(replace(files, problem=f"{folder}: holds neither {IMAGING} nor {SEGMENTATION}"))
    return found


def nnunet_cases(data: Path, option: str, part: str = "Tr") -> Found:
    """`part`: Tr, the training cases, or Ts, the test cases.

    Raises `OptionError` naming a `dataset.json` that describes what kitsam cannot use.
    """
    images, labels = data / f"images{part}", data / f"labels{part}"
    description = _description(data, option) if images.is_dir() or labels.is_dir() else _Description()
    found = _in_folders(images, labels, description.file_ending)
    found.notes.extend(description.notes(data))
    if part == "Tr":
        found = _as_listed(data, found, description)
        if tests := [path for path in _visible(data / "imagesTs") if path.name.endswith(ENDINGS)]:
            found.notes.append(f"{data / 'imagesTs'}: {len(tests)} test scans, which are no training cases")
    return found


@dataclass(frozen=True)
class _Listing:
    """An entry of `dataset` in `dataset.json`: paths, from the data set's folder or from the root."""

    images: list[str]
    label: str


@dataclass(frozen=True)
class _Entry:
    """An entry of `training` in a `dataset.json` of version 1: paths from the data set's folder."""

    image: str
    label: str


@dataclass(frozen=True)
class _Description:
    """What is read of nnU-Net's `dataset.json`, of its first and its second version."""

    file_ending: str = ENDINGS[0]
    channel_names: dict[str, Any] = field(default_factory=dict)
    modality: dict[str, Any] = field(default_factory=dict)  # as version 1 calls the channels
    labels: dict[str, Any] = field(default_factory=dict)
    numTraining: Any = None
    training: list[_Entry] = field(default_factory=list)
    dataset: dict[str, _Listing] = field(default_factory=dict)

    @property
    def channels(self) -> list[str]:
        return [str(name) for name in (self.channel_names or self.modality).values()]

    def check(self, path: Path, option: str) -> None:
        """Raises `OptionError` where the data set is none of CT in NIfTI with KiTS's labels."""
        if self.file_ending not in ENDINGS:
            raise OptionError(f"{option}: {path}: file_ending {self.file_ending}: kitsam reads {' and '.join(ENDINGS)}")
        if len(self.channels) > 1:
            channels = ", ".join(self.channels)
            raise OptionError(f"{option}: {path}: {len(self.channels)} channels ({channels}): kitsam reads one, CT")
        for name, values in self._label_values():
            expected = LABEL_VALUES.get(name.lower())
            if expected is not None and expected not in values:
                raise OptionError(
                    f"{option}: {path}: {name} is label {values[0] if len(values) == 1 else values}, but kitsam reads "
                    "KiTS's labels: 1 kidney, 2 tumor, 3 cyst"
                )

    def _label_values(self) -> Iterable[tuple[str, list[Any]]]:
        """Each label's name, and the values that it has in a label map: several where it is a region."""
        for name, value in self.labels.items():
            if name.isdigit():
                yield str(value), [int(name)]
            else:
                yield name, value if isinstance(value, list) else [value]

    def notes(self, data: Path) -> Iterable[str]:
        if self.channels and self.channels[0].strip().upper() != "CT":
            yield f"{data / DATASET}: the channel is {self.channels[0]}, not CT: its values are taken for HU"


def _description(data: Path, option: str) -> _Description:
    path = data / DATASET
    if not path.is_file():
        return _Description()
    description = as_record(read_json(path, OptionError), _Description, path, OptionError)
    description.check(path, option)
    return description


def _in_folders(images: Path, labels: Path, ending: str) -> Found:
    """The cases that have an image, a label map, or both."""
    found = Found()
    pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(ending)}")
    channels: dict[str, list[str]] = {}
    others = []
    for path in _visible(images):
        if match := pattern.fullmatch(path.name):
            channels.setdefault(match[1], []).append(match[2])
        elif path.name.endswith(ENDINGS):
            others.append(path.name)
    if others:
        found.notes.append(f"{images}: left out, not named NAME_0000{ending}: {_some(others)}")
    names = [path.name for path in _visible(labels) if path.name.endswith(ENDINGS)]
    others = [name for name in names if not name.endswith(ending)]
    if others:
        found.notes.append(f"{labels}: left out, not named NAME{ending}: {_some(others)}")
    labeled = {name.removesuffix(ending) for name in names if name.endswith(ending)}
    for name in sorted({*channels, *labeled}):
        files = CaseFiles(name, images / f"{name}_0000{ending}", labels / f"{name}{ending}")
        more = [channel for channel in channels.get(name, []) if channel != "0000"]
        if more:
            files = replace(files, problem=f"{images / name}_{more[0]}{ending}: a second channel: kitsam reads one, CT")
        found.cases.append(files)
    return found


def _as_listed(data: Path, found: Found, description: _Description) -> Found:
    """The cases that `dataset.json` lists, where it does; others are left out and named."""
    path = data / DATASET
    listed = [_listed_case(data, name, entry) for name, entry in description.dataset.items()]
    listed = listed or [_case_of_version_1(data, entry, description.file_ending) for entry in description.training]
    notes = list(found.notes)
    if listed:
        problems = {files.imaging: files.problem for files in found.cases}
        cases = [replace(files, problem=files.problem or problems.get(files.imaging, "")) for files in listed]
        known = {path for files in cases for path in (files.imaging, files.segmentation)}
        others = [files.name for files in found.cases if not {files.imaging, files.segmentation} & known]
        if others:
            notes.append(f"{path}: left out, not listed there: {_some(others)}")
    else:
        cases = found.cases
    if isinstance(description.numTraining, int) and description.numTraining != len(cases):
        notes.append(f"{path}: numTraining is {description.numTraining}, but {len(cases)} cases are there")
    return Found(cases, notes)


def _listed_case(data: Path, name: str, entry: _Listing) -> CaseFiles:
    images = [data / os.path.expandvars(image) for image in entry.images]
    label = data / os.path.expandvars(entry.label)
    if len(images) == 1:
        return CaseFiles(name, images[0], label)
    problem = f"{data / DATASET}: {name} has {len(images)} images: kitsam reads one, CT"
    return CaseFiles(name, images[0] if images else data / name, label, problem)


def _case_of_version_1(data: Path, entry: _Entry, ending: str) -> CaseFiles:
    """The image is listed without its channel, `_0000`, which nnU-Net's files have and the Decathlon's have not."""
    image = data / entry.image
    name = image.name.removesuffix(ending).removesuffix("_0000")
    if not os.path.lexists(image):
        image = image.parent / f"{name}_0000{ending}"
    return CaseFiles(name, image, data / entry.label)


def _visible(folder: Path) -> list[Path]:
    """What a folder holds, sorted, without hidden files; nothing where it is missing."""
    try:
        return sorted(folder / name for name in os.listdir(folder) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise OptionError(f"{folder}: cannot be read: {error.strerror}") from error


def _some(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
