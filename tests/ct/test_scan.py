"""Every format of a scan, on disk and in memory, gives the same volume."""

import shutil
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from tiny_dicom import write_series
from tiny_scans import draw

from kitsam.ct import scan_files
from kitsam.ct.scan import count_slices, read_scan, scan_in_memory
from kitsam.ct.scan_files import find_files
from kitsam.system.errors import CaseError, OptionError

AFFINE = np.array([[0, 0, -0.8, 10], [0, 0.7, 0, -20], [5.0, 0, 0, 30], [0, 0, 0, 1]])


@pytest.fixture
def image() -> nib.Nifti1Image:
    return nib.Nifti1Image(draw()[0], AFFINE)


@pytest.fixture
def expected(image):
    return scan_in_memory(image, "scan")


def same(volume, expected) -> bool:
    return np.array_equal(volume.voxels, expected.voxels) and np.allclose(
        volume.geometry.affine, expected.geometry.affine, atol=1e-5
    )


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd"])
def test_a_file_of_any_format_is_the_same_volume(tmp_path, image, expected, ending):
    if ending in scan_files.NIFTI_ENDINGS:
        kind = nib.Nifti1Pair if ending in (".hdr", ".img") else nib.Nifti1Image
        nib.save(kind(image.dataobj, AFFINE), tmp_path / f"scan{ending}")
    else:
        nib.save(image, tmp_path / "other.nii")
        sitk.WriteImage(sitk.ReadImage(str(tmp_path / "other.nii")), str(tmp_path / f"scan{ending}"))
        (tmp_path / "other.nii").unlink()
    (scan,) = find_files(tmp_path / f"scan{ending}")
    assert scan.name == "scan" and same(read_scan(scan), expected)
    assert count_slices(scan) in (1, len(expected.voxels))
    # As part of a folder it is one scan, whatever files it has.
    assert [one.name for one in find_files(tmp_path)] == ["scan"]


def test_an_image_in_memory_is_the_same_volume(tmp_path, image, expected):
    assert same(scan_in_memory((np.asanyarray(image.dataobj), (5, 0.7, 0.8), AFFINE), "scan"), expected)
    assert same(scan_in_memory((np.asanyarray(image.dataobj), None, AFFINE), "scan"), expected)
    assert same(scan_in_memory(nib.MGHImage(np.asanyarray(image.dataobj).astype(np.float32), AFFINE), "scan"), expected)
    nib.save(image, tmp_path / "scan.nii")
    assert same(scan_in_memory(sitk.ReadImage(str(tmp_path / "scan.nii")), "scan"), expected)


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        ((np.zeros((3, 3, 3)), (1, 1, 1), None), "without an affine"),
        ((np.zeros((3, 3, 3)), (1, 1, 2), np.eye(4)), "spacing .* is not that of the affine"),
        ((np.zeros((3, 3)), None, np.eye(4)), "expected \\(I, J, K\\)"),
        ((np.zeros((3, 3, 3), complex), None, np.eye(4)), "expected \\(I, J, K\\) numbers"),
        ((np.full((3, 3, 3), np.nan), None, np.eye(4)), "NaN"),
        ((np.zeros((3, 3, 3)), None, np.zeros((4, 4))), "does not say how the axes lie"),
        (np.zeros((3, 3, 3)), "found ndarray"),
        (7, "found int"),
    ],
)
def test_what_is_no_scan_is_refused(scan, message):
    with pytest.raises(CaseError, match=f"^scan: .*{message}"):
        scan_in_memory(scan, "scan")


def test_a_folder_of_scans_means_each_of_them(tmp_path, image):
    for name in ("b.nii.gz", "a_0000.nii.gz", "case_00001/imaging.nii.gz", "case_00001/segmentation.nii.gz", ".x.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        nib.save(image, tmp_path / name)
    (tmp_path / "notes.txt").write_text("none")
    assert [scan.name for scan in find_files(tmp_path)] == ["a", "b", "case_00001"]
    assert [scan.name for scan in find_files(tmp_path / "case_00001")] == ["case_00001"]


def test_folders_of_one_study_are_one_scan_and_of_several_studies_several(tmp_path):
    voxels = np.zeros((3, 4, 4), np.int16)
    for name, study in (("p1/s1", "1.1"), ("p1/s2", "1.1"), ("p2/s1", "1.2")):
        write_series(tmp_path / "in" / name, voxels, study=study)
    assert [(scan.name, len(scan.series)) for scan in find_files(tmp_path / "in")] == [("p1", 6), ("p2_s1", 3)]
    assert [(scan.name, len(scan.series)) for scan in find_files(tmp_path / "in" / "p1")] == [("p1", 6)]
    for name in ("q1", "q2"):
        write_series(tmp_path / "bare" / name, voxels, uids=False, PatientID="")
    assert [scan.name for scan in find_files(tmp_path / "bare")] == ["q1", "q2"]


def test_the_digest_of_a_series_is_that_of_its_content(tmp_path):
    paths = write_series(tmp_path / "s", np.zeros((3, 4, 4), np.int16))
    shutil.copytree(tmp_path / "s", tmp_path / "t")
    (tmp_path / "t" / paths[0].name).rename(tmp_path / "t" / "other")
    first, second = find_files(tmp_path / "s")[0], find_files(tmp_path / "t")[0]
    assert first.sha256() == second.sha256()
    (tmp_path / "t" / "other").unlink()
    assert first.sha256() != find_files(tmp_path / "t")[0].sha256()


def test_what_means_no_scan_is_told_so(tmp_path, monkeypatch):
    with pytest.raises(OptionError, match="CT: no such file"):
        find_files(tmp_path / "nowhere.nii")
    with pytest.raises(OptionError, match="holds neither imaging.nii.gz, nor DICOM files, nor scans"):
        find_files(tmp_path)
    (tmp_path / "IM1").write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(OptionError, match=f"one slice of a DICOM series: give its folder, {tmp_path}"):
        find_files(tmp_path / "IM1")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(OptionError, match="neither NIfTI, NRRD, MetaImage nor DICOM: .*a.txt"):
        find_files(tmp_path / "a.txt")
    monkeypatch.setattr(scan_files, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r'reading DICOM, NRRD and MetaImage needs: pip install "kitsam\[io\]"'):
        find_files(tmp_path)


def test_nifti_needs_no_simpleitk(tmp_path, image, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    nib.save(image, tmp_path / "a.nii.gz")
    assert read_scan(*find_files(tmp_path)).voxels.any()
