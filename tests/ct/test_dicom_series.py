"""DICOM series against the arrays they were written from, SimpleITK's own reader, and the same series as NIfTI."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from tiny_dicom import write_series

from kitsam.ct.scan import read_scan
from kitsam.ct.scan_files import Scan, find_files
from kitsam.ct.volume import Volume, read_image
from kitsam.system.errors import CaseError

REAL_SERIES = Path(__file__).parents[2] / "shared" / "data" / "dicom" / "ct_20_slices"


@pytest.fixture
def voxels() -> np.ndarray:
    """(slices, rows, columns) HU, no two alike."""
    return (np.random.default_rng(0).permutation(6 * 8 * 10).reshape(6, 8, 10) * 3 - 1000).astype(np.int16)


def read(folder: Path) -> Volume:
    (scan,) = find_files(folder)
    return read_scan(scan)


def in_file_order(volume: Volume) -> np.ndarray:
    return volume.geometry.in_file_order(volume.voxels)


def test_a_series_is_column_row_slice_from_feet_to_head_whatever_its_files_are_called(tmp_path, voxels):
    paths = write_series(tmp_path / "s", voxels)
    volume = read(tmp_path / "s")
    assert np.array_equal(in_file_order(volume), voxels.T) and volume.files == tuple(paths)
    expected = [[-1.5, 0, 0, 40], [0, -1.5, 0, 50], [0, 0, 4, 100], [0, 0, 0, 1]]
    assert np.allclose(volume.geometry.affine, expected) and volume.spacing == (4, 1.5, 1.5)


@pytest.mark.parametrize(
    ("orientation", "step"),
    [((1, 0, 0, 0, 1, 0), (0, 0, 4)), ((0, 1, 0, 0, 0, -1), (3, 0, 0)), ((-1, 0, 0, 0, -1, 0), (0, 0, 2))],
)
def test_it_is_what_simpleitk_reads_and_what_it_writes_as_nifti(tmp_path, voxels, orientation, step):
    write_series(tmp_path / "s", voxels, step, orientation=orientation, pixel=(1.5, 1.25))
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "s"))
    sitk.WriteImage(sitk.ReadImage(names), str(tmp_path / "s.nii.gz"))
    volume, nifti = read(tmp_path / "s"), read_image(tmp_path / "s.nii.gz")
    assert np.array_equal(volume.voxels, nifti.voxels)
    assert np.allclose(volume.geometry.affine, nifti.geometry.affine, atol=1e-4)


def test_each_slice_has_its_own_slope(tmp_path, voxels):
    write_series(tmp_path / "s", voxels, slopes=[1, 3, 1, 0.5, 1, 1])
    assert np.array_equal(in_file_order(read(tmp_path / "s")), voxels.T)


@pytest.mark.parametrize("lost", [1, 3, 4])
def test_a_missing_slice_is_named(tmp_path, voxels, lost):
    paths = write_series(tmp_path / "s", voxels)
    paths[lost].unlink()
    with pytest.raises(CaseError, match=rf"s: .*8 mm from {paths[lost - 1].name} to {paths[lost + 1].name}, 4 mm"):
        read(tmp_path / "s")


def test_slices_that_are_there_twice_are_refused(tmp_path, voxels):
    paths = write_series(tmp_path / "s", voxels)
    (tmp_path / "s" / "copy").write_bytes(paths[2].read_bytes())
    with pytest.raises(CaseError, match="two slices at the same place, .*copy"):
        read(tmp_path / "s")


def test_slices_of_uneven_distance_are_refused(tmp_path, voxels):
    paths = write_series(tmp_path / "s", voxels[:3])
    for path in write_series(tmp_path / "t", voxels[:3], step=(0, 0, 5), study="1.2.3"):
        path.rename(tmp_path / "s" / f"t{path.name}")
    assert paths[0].is_file()
    volume = read(tmp_path / "s")  # two series, each even
    assert volume.voxels.shape[0] == 3 and "2 series" in volume.doubts[0]


def test_a_tilted_gantry_gives_sheared_axes_and_a_doubt(tmp_path, voxels):
    write_series(tmp_path / "s", voxels, step=(0, 1.5, 4))
    volume = read(tmp_path / "s")
    assert np.allclose(volume.geometry.affine[:3, 2], [0, -1.5, 4])
    assert np.isclose(volume.geometry.voxel_ml, 1.5 * 1.5 * 4 / 1000)
    assert any("right angle" in doubt for doubt in volume.doubts)


def test_the_ct_of_most_slices_is_chosen_and_what_is_left_out_is_said(tmp_path, voxels):
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesNumber": 1}
    write_series(
        tmp_path / "a", np.zeros((9, 4, 4), np.int16), step=(0, 3, 0), orientation=(1, 0, 0, 0, 0, -1), **scout
    )
    write_series(tmp_path / "b" / "deep", voxels, SeriesDescription="Abdomen 5.0")
    write_series(tmp_path / "c", voxels[:4], SeriesNumber=3)
    write_series(tmp_path / "d", np.zeros((9, 8, 10), np.int16), Modality="PT", SeriesNumber=4)
    (scan,) = find_files(tmp_path)
    volume = read_scan(scan)
    assert np.array_equal(in_file_order(volume), voxels.T)
    assert "4 series: chosen is 2 CT Abdomen 5.0 (6 slices of 10 x 8); left out: 3 CT c (4 slices" in volume.doubts[0]


def test_slices_of_another_orientation_in_one_series_are_left_out(tmp_path, voxels):
    write_series(tmp_path / "s", voxels, uids=False)
    write_series(tmp_path / "s", voxels[:2], (3, 0, 0), orientation=(0, 1, 0, 0, 0, -1), uids=False, names="X{}")
    volume = read(tmp_path / "s")
    assert np.array_equal(in_file_order(volume), voxels.T) and "left out" in volume.doubts[0]


def test_what_is_no_series_is_refused_in_a_line(tmp_path, voxels):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "IM1").write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(CaseError, match="bad: DICOM, but no file of it is a slice"):
        read(tmp_path / "bad")
    paths = write_series(tmp_path / "cut", voxels)
    paths[1].write_bytes(paths[1].read_bytes()[:-60])
    with pytest.raises(CaseError, match="cut: the slices are not evenly apart"):
        read(tmp_path / "cut")
    paths = write_series(tmp_path / "end", voxels)
    paths[-1].write_bytes(paths[-1].read_bytes()[:-60])
    assert f"1 DICOM files are no images, or damaged: {paths[-1].name}" in read(tmp_path / "end").doubts[0]
    with pytest.raises(CaseError, match="many slices in one DICOM file"):
        multi = write_series(tmp_path / "multi", voxels[:1], NumberOfFrames=2, ImagePositionPatient=None)
        read_scan(Scan("multi", tmp_path / "multi", tuple(multi)))


def test_one_slice_is_as_thick_as_it_says(tmp_path, voxels):
    write_series(tmp_path / "s", voxels[:1])
    assert read(tmp_path / "s").spacing[0] == 5


@pytest.mark.skipif(not REAL_SERIES.exists(), reason="the real series is not at hand")
def test_a_real_series_in_jpeg_2000_without_uids():
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(REAL_SERIES))
    volume = read(REAL_SERIES)
    assert np.array_equal(in_file_order(volume).T, sitk.GetArrayFromImage(sitk.ReadImage(names)))
    segmentation = nib.load(REAL_SERIES.parent / "seg.nii.gz")
    assert volume.spacing[0] == 2 and volume.geometry.shape[1:] == segmentation.shape[:2]
    assert np.isclose(abs(np.linalg.det(segmentation.affine)), volume.geometry.voxel_ml * 1000)
