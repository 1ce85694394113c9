"""A CT from the slices of a DICOM series.

Slices are ordered by where they lie, never by file name or number. Those of one series that share size, pixels and
orientation are a stack; of several stacks the CT of most slices is taken, axial before others and localizers last, and
the choice is a doubt of the volume. Slices must be evenly apart: where one is missing or there twice, nothing is
guessed. A tilted gantry gives axes that are not at right angles, as in NIfTI. Each slice is read and rescaled to HU by
itself, since a series may change its slope from slice to slice. Cost: some 15 ms a slice for its header.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kitsam.ct.itk import in_one_line, ras_affine, simpleitk, volume_in_mm
from kitsam.ct.volume import Volume
from kitsam.system.errors import CaseError

# Tags, as SimpleITK writes them.
PATIENT, STUDY, SERIES = "0010|0020", "0020|000d", "0020|000e"
MODALITY, IMAGE_TYPE, DESCRIPTION, SERIES_NUMBER = "0008|0060", "0008|0008", "0008|103e", "0020|0011"
POSITION, ORIENTATION, PIXEL_SPACING, THICKNESS = "0020|0032", "0020|0037", "0028|0030", "0018|0050"
FRAMES = "0028|0008"

NEAR = 0.05  # of the distance between slices: how far one may lie from its place on an even grid
SAME = 1e-3  # mm, and cosine: what headers round


@dataclass(frozen=True)
class Slice:
    """The header of one file."""

    path: Path
    tags: dict[str, str]
    size: tuple[int, ...]  # columns, rows
    origin: np.ndarray  # (3,) mm, center of the first pixel, to the patient's left, back and head
    axes: np.ndarray  # (3, 3) a column an axis: along a row and along a column, mm a pixel; the normal, of length 1

    def tag(self, name: str) -> str:
        return self.tags.get(name, "").strip()

    @property
    def normal(self) -> np.ndarray:
        return self.axes[:, 2]

    @property
    def stack(self) -> tuple[Any, ...]:
        """What slices of one volume have in common."""
        return self.tag(SERIES), self.size, tuple(np.round(self.axes / (10 * SAME)).astype(int).ravel().tolist())

    @property
    def is_localizer(self) -> bool:
        return "LOCALIZER" in self.tag(IMAGE_TYPE)


def study_of(path: Path) -> tuple[str, str] | None:
    """Patient and study of a file; None where its header names neither, or it cannot be read."""
    tags, _ = _read_header(path)
    study = tags.get(PATIENT, "").strip(), tags.get(STUDY, "").strip()
    return study if any(study) else None


def read_series(files: Sequence[Path], source: Path) -> Volume:
    """The CT among DICOM files, columns, rows and slices of which are the axes of `volume.geometry`.

    Raises `CaseError` naming `source`: no slices, no position, a multi-frame file, slices missing or twice.
    """
    slices, unread = _read_slices(files)
    if not slices:
        raise CaseError(f"{source}: DICOM, but no file of it is a slice with a position in space")
    stacks: dict[Any, list[Slice]] = {}
    for one in slices:
        stacks.setdefault(one.stack, []).append(one)
    chosen, *others = sorted(stacks.values(), key=_preference)
    ordered = sorted(chosen, key=lambda one: float(one.origin @ one.normal))
    step = _step(ordered, source)
    affine = ras_affine(np.column_stack([ordered[0].axes[:, :2], step]), ordered[0].origin)
    volume = volume_in_mm(source, _read_voxels(ordered), affine)
    doubts = [f"{source}: {len(unread)} DICOM files are no images, or damaged: {unread[0].name}..."] if unread else []
    doubts += [f"{source}: the modality is {modality}, not CT"] if (modality := chosen[0].tag(MODALITY)) != "CT" else []
    if others:
        left_out = "; ".join(map(_text, others))
        doubts.append(f"{source}: {len(stacks)} series: chosen is {_text(chosen)}; left out: {left_out}")
    return replace(volume, doubts=(*doubts, *volume.doubts), files=tuple(one.path for one in ordered))


def _preference(stack: list[Slice]) -> tuple[Any, ...]:
    """The stack to take comes first."""
    first = stack[0]
    number = first.tag(SERIES_NUMBER)
    is_axial = abs(first.normal[2]) > max(abs(first.normal[:2]))
    order = int(number) if number.isdigit() else 0, first.tag(SERIES), str(first.path)
    return first.tag(MODALITY) != "CT", first.is_localizer, not is_axial, -len(stack), order


def _text(stack: list[Slice]) -> str:
    first = stack[0]
    words = first.tag(SERIES_NUMBER), first.tag(MODALITY), first.tag(DESCRIPTION) or first.path.parent.name
    columns, rows = first.size
    return f"{' '.join(filter(None, words))} ({len(stack)} slice{'s' * (len(stack) > 1)} of {columns} x {rows})"


def _step(ordered: list[Slice], source: Path) -> np.ndarray:
    """(3,) mm from a slice to the next. Raises `CaseError` where there is no such number."""
    first, origins = ordered[0], np.stack([one.origin for one in ordered])  # (S, 3)
    if len(ordered) == 1:
        thickness = first.tag(THICKNESS)
        if not thickness:
            raise CaseError(f"{source}: one slice, without a thickness: its volume is unknown")
        return first.normal * float(thickness)
    gaps = np.diff(origins @ first.normal)
    if gaps.min() < SAME:
        twice = int(gaps.argmin())
        raise CaseError(
            f"{source}: two slices at the same place, {ordered[twice].path.name} and {ordered[twice + 1].path.name}: "
            "several phases or copies in one series? Give a folder of one"
        )
    step = (origins[-1] - origins[0]) / (len(ordered) - 1)
    away = np.linalg.norm(origins - origins[0] - np.arange(len(ordered))[:, None] * step, axis=1)
    if away.max() > NEAR * gaps.mean():
        widest = int(gaps.argmax())
        raise CaseError(
            f"{source}: the slices are not evenly apart: {gaps[widest]:.4g} mm from {ordered[widest].path.name} to "
            f"{ordered[widest + 1].path.name}, {np.median(gaps):.4g} mm elsewhere (median): is a slice missing?"
        )
    return step


def _read_slices(files: Sequence[Path]) -> tuple[list[Slice], list[Path]]:
    """The slices, and the files whose header SimpleITK cannot read: reports, but also what is cut short."""
    slices, unread = [], []
    for path in files:
        tags, reader = _read_header(path)
        if reader is None:
            unread.append(path)
        elif one := _as_slice(path, tags, reader):
            slices.append(one)
    return slices, unread


def _as_slice(path: Path, tags: dict[str, str], reader: Any) -> Slice | None:
    """None for what is no slice: a dose, a segmentation. Raises `CaseError` for a multi-frame file."""
    if not (tags.get(POSITION, "").strip() and tags.get(ORIENTATION, "").strip()):
        if tags.get(FRAMES, "1").strip() not in ("", "1") and tags.get(MODALITY, "").strip() in ("CT", "MR"):
            raise CaseError(f"{path}: many slices in one DICOM file: convert it to NIfTI, for instance with dcm2niix")
        return None
    if not tags.get(PIXEL_SPACING, "").strip():
        raise CaseError(f"{path}: the DICOM header does not give the size of a pixel")
    axes = np.reshape(reader.GetDirection(), (3, 3)) * (*reader.GetSpacing()[:2], 1.0)
    return Slice(path, tags, reader.GetSize()[:2], np.array(reader.GetOrigin()), axes)


def _read_header(path: Path) -> tuple[dict[str, str], Any]:
    """The tags, and SimpleITK's reader; nothing and None where it is no image."""
    sitk = simpleitk(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return {}, None
    return {name: reader.GetMetaData(name) for name in reader.GetMetaDataKeys()}, reader


def _read_voxels(ordered: Iterable[Slice]) -> np.ndarray:
    """(columns, rows, slices) float32 HU."""
    planes = []
    for one in ordered:
        sitk = simpleitk(one.path)
        with in_one_line(one.path):
            image = sitk.ReadImage(str(one.path), sitk.sitkFloat32, "GDCMImageIO")
        planes.append(sitk.GetArrayFromImage(image).reshape(one.size[::-1]))
    return np.stack(planes).T
