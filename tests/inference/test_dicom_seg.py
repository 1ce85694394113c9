"""DICOM segmentations, read back by highdicom and pydicom."""

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
from label_maps import labels
from tiny_dicom import write_series

from kitsam.inference import predict as prediction
from kitsam.inference.config import PredictConfig
from kitsam.inference.dicom_seg import write_dicom_seg
from kitsam.system.errors import CaseError, OptionError


@pytest.fixture
def voxels(ct) -> np.ndarray:
    """(slices, rows, columns), from feet to head."""
    return np.asanyarray(nib.load(ct).dataobj)[::-1]


def read_back(path, sources) -> np.ndarray:
    """(slices, rows, columns) by highdicom, in the order of the series."""
    segmentation = highdicom.seg.segread(path)
    uids = [pydicom.dcmread(source, stop_before_pixels=True).SOPInstanceUID for source in sources]
    return segmentation.get_pixels_by_source_instance(
        uids, combine_segments=True, relabel=False, assert_missing_frames_are_empty=True
    )


def test_the_segmentation_is_the_label_map_frame_by_frame(model, voxels, tmp_path):
    sources = write_series(tmp_path / "series", voxels)
    out = tmp_path / "out"
    assert prediction.run(PredictConfig([tmp_path / "series"], model, out, device="cpu", dicom_seg=True)) == 0
    label = labels(out / "series.nii.gz")
    assert np.array_equal(read_back(out / "series.seg.dcm", sources), label.T) and label.any()
    plain = pydicom.dcmread(out / "series.seg.dcm")
    assert plain.Modality == "SEG" and [one.SegmentLabel for one in plain.SegmentSequence] == [
        "kidney",
        "tumor",
        "cyst",
    ]
    places = {pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID: z for z, path in enumerate(sources)}
    for frame, pixels in zip(plain.PerFrameFunctionalGroupsSequence, plain.pixel_array):
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        assert np.array_equal(pixels > 0, number == label[:, :, places[source]].T)


def test_a_segmentation_below_the_series_is_no_part_of_it(model, voxels, tmp_path, capsys):
    write_series(tmp_path / "series", voxels)
    for _ in range(2):
        config = PredictConfig([tmp_path / "series"], model, tmp_path / "series" / "out", device="cpu", dicom_seg=True)
        assert prediction.run(config) == 0
    assert "labelled already" in capsys.readouterr().out


def test_an_empty_answer_is_a_segmentation_too(voxels, tmp_path):
    sources = write_series(tmp_path / "series", voxels)
    write_dicom_seg(tmp_path / "a.seg.dcm", np.zeros(voxels.T.shape, np.uint8), sources, "series")
    assert not read_back(tmp_path / "a.seg.dcm", sources).any()


def test_a_series_without_uids_is_refused_before_any_work(model, voxels, tmp_path, capsys):
    write_series(tmp_path / "series", voxels, uids=False)
    config = PredictConfig([tmp_path / "series"], model, tmp_path / "out", device="cpu", dicom_seg=True)
    assert prediction.run(config) == 1
    error = capsys.readouterr().err
    assert "has no SOPClassUID, by which a DICOM segmentation would refer to it" in error
    assert not [*(tmp_path / "out").glob("series*")] if (tmp_path / "out").exists() else True


def test_what_is_no_dicom_has_none(model, ct, tmp_path):
    with pytest.raises(OptionError, match=f"--dicom_seg: no DICOM series: {ct}"):
        prediction.run(PredictConfig([ct], model, tmp_path / "out", dicom_seg=True))
    with pytest.raises(CaseError, match="no DICOM series"):
        write_dicom_seg(tmp_path / "a.dcm", np.zeros((2, 2, 2), np.uint8), [], "scan")
