"""What a model says of one scan: labels, probabilities, volumes, lesions, and how to keep or see them."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from kitsam import __version__
from kitsam.ct.labels import CLASS_NAMES
from kitsam.ct.scan_files import SEGMENTATION_ENDING, Scan, stem
from kitsam.ct.volume import Geometry, Volume, save_label
from kitsam.inference.answers import Answers
from kitsam.inference.color_table import write_color_table
from kitsam.inference.measures import Finding, findings_of, middle_column, volumes_of
from kitsam.inference.plausibility import doubts_of_answer
from kitsam.inference.predictions import Outputs, PredictionRecord
from kitsam.inference.scans import DrawnBox
from kitsam.pictures.overlay import choose_panels, draw_overlay
from kitsam.system.errors import CaseError
from kitsam.system.files import complete_or_absent
from kitsam.system.outputs import refuse_overwriting
from kitsam.system.seals import write_sealed

DECIMALS = 3  # of a probability in a file: what is rounded away compresses to nothing


class ModelName(NamedTuple):
    """Which model it was."""

    text: str  # path of the bundle, or name of the checkpoint
    sha256: str
    about: str  # what it learned from and how well it does, in a line


@dataclass(frozen=True, eq=False)
class Prediction:
    """Labels of a scan, on the scan's own voxels. `Model.predict` makes one.

    Arrays have the axes of the scan as nibabel gives them; of DICOM column, row, slice, as SimpleITK orders slices.
    """

    name: str  # of the scan
    volumes_ml: dict[str, float]  # by class: kidney (without masses), tumor, cyst
    kidneys: list[Finding]  # the largest first
    lesions: list[Finding]  # tumors, then cysts, each the largest first
    warnings: list[str]  # what is not plausible about the answer; nothing here stops a label map
    model: ModelName
    canonical: np.ndarray = field(repr=False)  # (S, H, W) uint8 labels in the canonical frame
    volume: Volume = field(repr=False)  # the scan
    scan: Scan | None = field(repr=False)  # its files; None where it came in memory
    boxes: list[DrawnBox] | None = field(repr=False)
    answers: Answers | None = field(repr=False)
    flips: bool = False  # whether slices were encoded mirrored too

    @cached_property
    def label(self) -> np.ndarray:
        """(I, J, K) uint8: 0 background, 1 kidney, 2 tumor, 3 cyst."""
        return np.ascontiguousarray(self.geometry.in_file_order(self.canonical))

    @cached_property
    def probabilities(self) -> dict[str, np.ndarray] | None:
        """(I, J, K) float16 by decoder, `roi`, `tumor` and `cyst`; for a checkpoint by class of the boxes. None where
        they were not kept. They are what decoders say before thresholds and before small parts go: 0 where a decoder
        was not asked.
        """
        if self.answers is None:
            return None
        return {name: self.geometry.in_file_order(volume) for name, volume in self.answers.by_name.items()}

    @property
    def geometry(self) -> Geometry:
        return self.volume.geometry

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) voxel indices of `label` -> mm to the patient's right, front and head."""
        return self.geometry.affine

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a person should know of the scan."""
        return self.volume.doubts

    def overlay(self) -> Image.Image:
        """A picture of up to four slices with what was found outlined, which a notebook shows."""
        memory = BytesIO()
        panels = choose_panels(self.volume.voxels, self.canonical, None, self.volume.spacing)
        draw_overlay(memory, panels, self.volume.spacing[1:], self.name)
        return Image.open(memory)

    def save(self, path: str | Path, probabilities: bool = False, dicom_seg: bool = False) -> Path:
        """Write the label map, .nii.gz or .nii, with the scan's geometry; beside it NAME.json (names of the labels,
        volumes, lesions, warnings), NAME.png and a color table for 3D Slicer.

        `probabilities`: also NAME_probabilities.npz. `dicom_seg`: also NAME.seg.dcm, of a scan that was DICOM.
        Raises `OptionError` where a file would replace the scan, `CaseError` where there is nothing to write.
        """
        path = Path(path)
        if not path.name.endswith((".nii.gz", ".nii")):
            raise CaseError(f"{path}: a label map is a .nii.gz or .nii file")
        outputs = Outputs(
            path,
            *(path.with_name(f"{stem(path)}{ending}") for ending in (".png", ".json")),
            path.with_name(f"{stem(path)}_probabilities.npz") if probabilities else None,
            path.with_name(f"{stem(path)}{SEGMENTATION_ENDING}") if dicom_seg else None,
        )
        refuse_overwriting(outputs.paths, self.scan.files if self.scan else [], "path")
        write_outputs(outputs, self)
        write_color_table(path.parent)
        return path

    def record(self) -> PredictionRecord:
        """Without volumes, as it is while files are written."""
        return PredictionRecord(
            __version__,
            str(self.scan.path.absolute()) if self.scan else "",
            self.scan.sha256() if self.scan else hashlib.sha256(np.ascontiguousarray(self.volume.voxels)).hexdigest(),
            self.model.text,
            self.model.sha256,
            self.boxes,
            list(self.doubts),
            flips=self.flips,
            about_model=self.model.about,
        )


def as_prediction(
    model: ModelName,
    volume: Volume,
    scan: Scan | None,
    label: np.ndarray,  # (S, H, W) uint8
    boxes: list[DrawnBox] | None,
    answers: Answers | None,
    flips: bool,
) -> Prediction:
    """A label map, measured and looked at."""
    kidneys, lesions = findings_of(label, volume.geometry, middle_column(volume.voxels, label))
    return Prediction(
        scan.name if scan else "scan",
        volumes_of(label, volume.geometry.voxel_ml),
        kidneys,
        lesions,
        doubts_of_answer(volume.voxels, volume.spacing, label, kidneys, lesions),
        model,
        label,
        volume,
        scan,
        boxes,
        answers,
        flips,
    )


def write_outputs(outputs: Outputs, prediction: Prediction) -> None:
    """All files of a scan; the record first without volumes and at last with them (`predictions.py`)."""
    record = prediction.record()
    write_sealed(outputs.record, record.as_json())
    save_label(outputs.label_map, prediction.canonical, prediction.geometry)
    if outputs.probabilities:
        _write_probabilities(outputs.probabilities, prediction)
    if outputs.dicom_seg:
        from kitsam.inference.dicom_seg import write_dicom_seg  # needs a package that is an extra

        write_dicom_seg(outputs.dicom_seg, prediction.label, prediction.volume.files, prediction.name)
    with complete_or_absent(outputs.picture) as temporary:
        prediction.overlay().save(temporary, format="png")
    done = PredictionRecord(
        **{
            **vars(record),
            "volumes_ml": prediction.volumes_ml,
            "kidneys": prediction.kidneys,
            "lesions": prediction.lesions,
            "warnings": prediction.warnings,
            "labels": {name: number for number, name in enumerate(CLASS_NAMES)},
        }
    )
    write_sealed(outputs.record, done.as_json())


def _write_probabilities(path: Path, prediction: Prediction) -> None:
    if prediction.probabilities is None:
        raise CaseError(f"{path}: the probabilities were not kept: predict(..., probabilities=True)")
    volumes = {name: np.round(volume, DECIMALS) for name, volume in prediction.probabilities.items()}
    with complete_or_absent(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, affine=prediction.affine, **volumes)
