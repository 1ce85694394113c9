import nibabel as nib
import numpy as np
import pytest
from kidney_labels import SPACING, kidney_labels
from tiny_scans import save

from kitsam.cli import main
from kitsam.ct.case import find_cases, read_case
from kitsam.ct.volume import canonical_affine
from kitsam.phantom.cases import run
from kitsam.phantom.config import PhantomConfig
from kitsam.phantom.rendering import render
from kitsam.system.errors import OptionError

AFFINE = canonical_affine(SPACING)


@pytest.fixture(scope="module")
def label():
    return np.ascontiguousarray(kidney_labels()[3:7, 40:104])


@pytest.fixture
def maps(tmp_path, label):
    save(tmp_path / "maps" / "case_00007.nii.gz", label, AFFINE)
    return tmp_path / "maps"


def test_each_label_map_becomes_a_case_with_exactly_its_labels(maps, tmp_path, label, capsys):
    save(maps / "case_00009" / "segmentation.nii.gz", label[:, ::-1], AFFINE)
    assert run(PhantomConfig(tmp_path / "data", seed=2, labels=maps)) == 0

    files = find_cases(tmp_path / "data")
    assert list(files) == ["case_00007", "case_00009"]
    case = read_case(files["case_00007"])
    np.testing.assert_array_equal(case.label, label)
    np.testing.assert_array_equal(case.image, render(label, SPACING, "case_00007", 2))
    assert case.spacing == SPACING and not case.doubts
    assert nib.load(files["case_00007"].imaging).get_data_dtype() == np.int16
    assert nib.load(files["case_00007"].segmentation).get_data_dtype() == np.uint8
    assert "Wrote 2 cases" in capsys.readouterr().out


def test_a_label_map_keeps_its_orientation_and_place(tmp_path, label):
    """In RAS, stored as float64 with an offset."""
    turned = np.ascontiguousarray(label.transpose(2, 1, 0)[::-1, ::-1, ::-1]).astype(np.float64)
    affine = np.diag([3.0, 3.0, 5.0, 1.0])
    affine[:3, 3] = 10, -20, 30
    save(tmp_path / "maps" / "a.nii.gz", turned, affine)
    assert run(PhantomConfig(tmp_path / "data", labels=tmp_path / "maps")) == 0

    scan, labels = (nib.load(tmp_path / "data" / "a" / f"{name}.nii.gz") for name in ("imaging", "segmentation"))
    np.testing.assert_array_equal(np.asarray(labels.dataobj), turned)
    np.testing.assert_array_equal(scan.affine, affine)
    case = read_case(find_cases(tmp_path / "data")["a"])
    np.testing.assert_array_equal(case.label, label)
    np.testing.assert_array_equal(case.image, render(label, SPACING, "a"))


def test_the_same_options_write_the_same_bytes_over_their_own_files_too(maps, tmp_path):
    written = []
    for out in ("first", "second", "first"):
        run(PhantomConfig(tmp_path / out, labels=maps))
        written.append([path.read_bytes() for path in sorted((tmp_path / out).glob("*/*"))])

    assert written[0] == written[1] == written[2] and len(written[0]) == 2


def test_cases_are_as_many_as_asked_for(maps, tmp_path, label):
    save(maps / "case_00001.nii.gz", label, AFFINE)
    run(PhantomConfig(tmp_path / "data", cases=1, labels=maps))

    assert list(find_cases(tmp_path / "data")) == ["case_00001"]


@pytest.mark.parametrize(
    ("voxels", "reason"),
    [
        (np.zeros((4, 32, 32), np.uint8), "labels neither kidney nor tumor nor cyst"),
        (np.full((4, 32, 32), 0.5, np.float32), "label 0.5 is none of 0"),
        (np.full((4, 32, 32), 7, np.uint8), "label 7 is none of 0"),
        (np.ones((32, 32), np.uint8), "expected a 3-D volume, found shape (32, 32)"),
    ],
)
def test_a_label_map_that_cannot_be_used_is_left_out_by_name(maps, tmp_path, voxels, reason, capsys):
    path = save(maps / "case_00008.nii.gz", voxels, AFFINE)
    assert run(PhantomConfig(tmp_path / "data", labels=maps)) == 1

    err = capsys.readouterr().err
    assert f"warning: case_00008 is left out: {path}: {reason}" in err
    assert list(find_cases(tmp_path / "data")) == ["case_00007"]


def test_a_folder_without_a_label_map_that_can_be_used_is_refused(tmp_path):
    (tmp_path / "maps").mkdir()
    with pytest.raises(OptionError, match="--labels: no label map"):
        run(PhantomConfig(tmp_path / "data", labels=tmp_path / "maps"))
    save(tmp_path / "maps" / "a.nii.gz", np.zeros((3, 9, 9), np.uint8))
    with pytest.raises(OptionError, match="--labels: no usable label map"):
        run(PhantomConfig(tmp_path / "data", labels=tmp_path / "maps"))


def test_two_label_maps_of_one_name_are_refused(maps, tmp_path, label):
    save(maps / "case_00007" / "segmentation.nii.gz", label, AFFINE)
    with pytest.raises(OptionError, match="two label maps of one name"):
        run(PhantomConfig(tmp_path / "data", labels=maps))


def test_label_maps_are_never_written_over(tmp_path, label):
    path = save(tmp_path / "case_00007" / "segmentation.nii.gz", label, AFFINE)
    before = path.read_bytes()

    with pytest.raises(OptionError, match=r"OUT: .*segmentation\.nii\.gz was not made by"):
        run(PhantomConfig(tmp_path, labels=tmp_path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("option", ["size", "slices"])
def test_a_label_map_has_its_own_size(maps, tmp_path, option, capsys):
    assert main(["phantom", str(tmp_path / "data"), "--labels", str(maps), f"--{option}", "64"]) == 2

    err = capsys.readouterr().err
    assert f"--{option}: has no place beside --labels" in err and err.count("\n") == 1
