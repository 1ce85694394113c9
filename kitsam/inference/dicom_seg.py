"""A label map as DICOM Segmentation, which a hospital's archive keeps beside the series it was made from.

highdicom writes it (an extra). Each class is a segment with its code of SNOMED CT; each frame refers to the slice of
the series that it lies on, by UID: a series without UIDs, as some anonymizers leave it, can have none.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kitsam import __version__
from kitsam.ct.labels import CLASS_NAMES
from kitsam.system.errors import CaseError, OptionError
from kitsam.system.files import complete_or_absent

INSTALL = 'pip install "kitsam[dicom_seg]"'
# Category and type of each class: codes of SNOMED CT in DICOM's CID 7150 and 7151 ff. (PS3.16).
ANATOMY, ABNORMAL = ("123037004", "Anatomical structure"), ("49755003", "Morphologically abnormal structure")
CODES = {
    "kidney": (ANATOMY, ("64033007", "Kidney")),
    "tumor": (ABNORMAL, ("108369006", "Neoplasm")),
    "cyst": (ABNORMAL, ("367643001", "Cyst")),
}
UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")


def check_dicom_seg(files: Sequence[Path], name: str) -> None:
    """Raises `OptionError` without highdicom, `CaseError` where a series cannot be referred to."""
    _source_images(files, name)


def write_dicom_seg(path: Path, label: np.ndarray, files: Sequence[Path], name: str) -> None:
    """`label`: (columns, rows, slices) uint8; `files`: of the series, slice by slice. Raises as `check_dicom_seg`."""
    sources = _source_images(files, name)
    from highdicom.seg import Segmentation, SegmentationTypeValues
    from highdicom.uid import UID

    segmentation = Segmentation(
        source_images=sources,
        pixel_array=np.ascontiguousarray(label.T),  # (slices, rows, columns): 0, or a segment's number
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=_segments(),
        series_instance_uid=UID(),
        series_number=_series_number(sources[0]),
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="kitsam",
        manufacturer_model_name="kitsam",
        software_versions=__version__,
        device_serial_number="0",
        series_description="Kidneys, tumors, cysts (kitsam, for research)",
        omit_empty_frames=bool(label.any()),
    )
    with complete_or_absent(path) as temporary:
        segmentation.save_as(temporary)


def _source_images(files: Sequence[Path], name: str) -> list:
    """The headers of the series. Raises `CaseError` where one lacks a UID."""
    try:
        import highdicom  # noqa: F401
        import pydicom
    except ImportError as error:
        raise OptionError(f"--dicom_seg: needs: {INSTALL}") from error
    if not files:
        raise CaseError(f"{name}: no DICOM series, of which alone a DICOM segmentation can be made")
    sources = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
    for path, source in zip(files, sources):
        for uid in UIDS:
            if not source.get(uid):
                raise CaseError(f"{path}: has no {uid}, by which a DICOM segmentation would refer to it")
    return sources


def _series_number(source: object) -> int:
    """One that no series of a scanner has."""
    return int(source.get("SeriesNumber") or 0) + 1000


def _segments() -> list:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    algorithm = AlgorithmIdentificationSequence("kitsam", codes.DCM.ArtificialIntelligence, __version__)
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=Code(CODES[name][0][0], "SCT", CODES[name][0][1]),
            segmented_property_type=Code(CODES[name][1][0], "SCT", CODES[name][1][1]),
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(CLASS_NAMES[1:], 1)
    ]
