"""A DICOM series of a few small slices, written tag by tag."""

from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0, 0, 0, 1, 0)


def write_series(
    folder: Path,
    voxels: np.ndarray,  # (slices, rows, columns) int16 HU, from feet to head
    step: tuple[float, float, float] = (0, 0, 4),  # mm from a slice to the next, to left, back and head
    pixel: tuple[float, float] = (1.5, 1.5),  # mm a row and a column
    orientation: tuple[float, ...] = AXIAL,
    uids: bool = True,
    names: str = "IM{:04d}",
    slopes: list[float] | None = None,
    study: str = "1.2.3",
    **tags,
) -> list[Path]:
    """The files, slice by slice; their names run against the order of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    series, frame, paths = generate_uid(), generate_uid(), []
    for z, plane in enumerate(voxels):
        one = _header(uids)
        if uids:
            one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID
            one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.Modality, one.SeriesNumber, one.InstanceNumber = "CT", 2, len(voxels) - z
        one.ImageOrientationPatient = list(orientation)
        one.ImagePositionPatient = [float(mm) for mm in np.array([-40, -50, 100]) + z * np.array(step)]
        one.PixelSpacing, one.SliceThickness = list(pixel), 5
        one.Rows, one.Columns = plane.shape
        one.RescaleSlope, one.RescaleIntercept = slopes[z] if slopes else 1, -1024
        stored = (plane.astype(float) + 1024) / float(one.RescaleSlope)
        one.PixelData = np.rint(stored).astype("<u2").tobytes()
        for name, value in tags.items():
            setattr(one, name, value)
        paths.append(folder / names.format(len(voxels) - z))
        one.save_as(paths[-1], enforce_file_format=True)
    return paths


def _header(uids: bool) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    if uids:
        one.SOPClassUID = CTImageStorage
    one.PatientID, one.PatientName, one.PatientBirthDate, one.PatientSex = "7", "Test^Test", "", ""
    one.StudyDate = one.StudyTime = one.AccessionNumber = one.StudyID = one.ReferringPhysicianName = ""
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
    return one
