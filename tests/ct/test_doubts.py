"""What a file says of its voxels is used, refused, or told; never passed over."""

import nibabel as nib
import numpy as np
import pytest
from tiny_scans import IPL, draw, save

from kitsam.ct.case import find_cases, read_case
from kitsam.ct.config import FingerprintConfig
from kitsam.ct.fingerprint import run as fingerprint
from kitsam.ct.volume import read_geometry, read_image, read_label, save_label
from kitsam.system.errors import CaseError

SHAPE = (4, 30, 30)


def ct(air=-1000):
    """HU of a body with air around it."""
    image = np.full(SHAPE, air, np.int16)
    image[:, 8:22, 8:22] = 40 - 1000 - air if air else 1064
    return image


def moved(*shift):
    affine = IPL.copy()
    affine[:3, 3] += shift
    return affine


def sheared(degrees):
    affine = IPL.copy()
    affine[1, 0] += abs(affine[2, 0]) * np.tan(np.deg2rad(degrees))
    return affine


def with_units(path, voxels, code):
    image = nib.Nifti1Image(voxels, IPL)
    image.header["xyzt_units"] = code
    path.write_bytes(image.to_bytes())
    return path


def doubts_of(path):
    return " ".join(read_image(path).doubts)


# Where the labels lie


@pytest.mark.parametrize(
    "affine",
    [IPL * [[1], [1], [-1], [1]], moved(0, 1, 0), moved(0, 0, -6), IPL * [1, 1, 1.5, 1]],
    ids=["flipped", "a row aside", "a slice aside", "stretched"],
)
def test_labels_that_do_not_lie_where_their_scan_lies_are_a_bad_case(scan, affine):
    save(scan.segmentation, scan.label, affine)

    with pytest.raises(CaseError, match=r"segmentation\.nii\.gz: does not lie where its scan lies: .* voxels apart"):
        read_case(find_cases(scan.data)["case_00000"])


def test_labels_without_the_affine_of_their_scan_are_a_bad_case(scan):
    save(scan.imaging, scan.image, np.diag([-0.8, -0.8, 5, 1]))
    save(scan.segmentation, scan.label, np.eye(4))

    with pytest.raises(CaseError, match=r"does not lie where its scan lies: .*orientation RAS, the scan's LPS"):
        read_case(find_cases(scan.data)["case_00000"])


def test_a_small_difference_is_told(scan):
    save(scan.segmentation, scan.label, moved(0, 0.4, 0))

    (doubt,) = (text for text in read_case(find_cases(scan.data)["case_00000"]).doubts if "affine differs" in text)
    assert str(scan.segmentation) in doubt and "0.5 voxels" in doubt


def test_rounded_affines_are_no_matter(scan):
    save(scan.segmentation, scan.label, moved(0, 1e-3, 0))

    assert not any("affine differs" in text for text in read_case(find_cases(scan.data)["case_00000"]).doubts)


def test_labels_in_another_order_of_axes_lie_where_the_scan_lies(scan):
    turned = nib.load(scan.segmentation).as_reoriented([[2, -1], [0, 1], [1, -1]])
    nib.save(turned, scan.segmentation)

    case = read_case(find_cases(scan.data)["case_00000"])
    np.testing.assert_array_equal(case.label, scan.label)


# Axes and units


def test_a_voxel_of_sheared_axes_has_the_volume_of_the_determinant(tmp_path):
    volume = read_image(save(tmp_path / "ct.nii.gz", ct(), sheared(25)))

    assert volume.geometry.voxel_ml == pytest.approx(5 * 0.8 * 0.8 / 1000)
    assert np.prod(volume.spacing) / 1000 > 1.09 * volume.geometry.voxel_ml
    assert "miss a right angle by 25.0 degrees" in doubts_of(tmp_path / "ct.nii.gz")


def test_fingerprint_measures_sheared_volumes_by_the_determinant(tmp_path, capsys):
    label = np.zeros(SHAPE, np.uint8)
    label[1, 10:15, 10:15] = 1
    save(tmp_path / "data" / "case_00000" / "imaging.nii.gz", ct(), sheared(25))
    save(tmp_path / "data" / "case_00000" / "segmentation.nii.gz", label, sheared(25))

    assert fingerprint(FingerprintConfig(tmp_path / "data", tmp_path)) == 0

    assert '"kidney": 0.08,' in (tmp_path / "fingerprint.json").read_text()
    assert capsys.readouterr().err.count("miss a right angle") == 1


def test_a_header_without_orientation_is_told(tmp_path):
    image = nib.Nifti1Image(ct(), None)
    image.header["qform_code"] = image.header["sform_code"] = 0
    nib.save(image, path := tmp_path / "ct.nii")

    assert "gives no orientation" in doubts_of(path) and str(path) in doubts_of(path)


def test_two_orientations_in_one_header_are_told(tmp_path):
    image = nib.Nifti1Image(ct(), None)
    image.set_sform(IPL, 1)
    image.set_qform(IPL * [[1], [-1], [1], [1]], 1)
    nib.save(image, tmp_path / "ct.nii.gz")

    assert "qform and sform" in doubts_of(tmp_path / "ct.nii.gz")


def test_a_damaged_qform_beside_a_good_sform_is_told(tmp_path):
    image = nib.Nifti1Image(ct(), IPL)
    image.set_qform(IPL, 1)
    content = bytearray(image.to_bytes())
    content[256:268] = np.full(3, 9.0, "<f4").tobytes()
    (tmp_path / "ct.nii").write_bytes(content)

    assert "qform and sform" in doubts_of(tmp_path / "ct.nii")


@pytest.mark.parametrize(("unit", "name"), [(1, "meters"), (3, "micrometers")])
@pytest.mark.parametrize("read", [read_image, read_label, read_geometry])
def test_lengths_that_are_not_mm_are_refused(tmp_path, unit, name, read):
    path = with_units(tmp_path / "ct.nii", np.zeros(SHAPE, np.uint8), unit + 8)

    with pytest.raises(CaseError, match=f"ct.nii: the header gives lengths in {name}"):
        read(path)


@pytest.mark.parametrize("unit", [0, 2, 5, 10])
def test_unknown_units_are_taken_for_mm(tmp_path, unit):
    assert read_image(with_units(tmp_path / "ct.nii", ct(), unit)).spacing == pytest.approx((5, 0.8, 0.8))


def test_axes_in_a_plane_are_refused(tmp_path):
    affine = IPL.copy()
    affine[:3, 2] = affine[:3, 1] * 1.5
    content = bytearray(nib.Nifti1Image(ct(), IPL).to_bytes())
    content[280:328] = affine[:3].astype("<f4").tobytes()
    (tmp_path / "ct.nii").write_bytes(content)

    with pytest.raises(CaseError, match="does not say how the axes lie"):
        read_image(tmp_path / "ct.nii")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("axes", [(1,), (1, 1)])
def test_trailing_axes_of_one_are_dropped(tmp_path, axes, ending):
    image, label = draw()
    scan = save(tmp_path / f"ct{ending}", image.reshape(*image.shape, *axes))
    labels = save(tmp_path / f"label{ending}", label.reshape(*label.shape, *axes))

    volume = read_image(scan)

    np.testing.assert_array_equal(volume.voxels, image)
    np.testing.assert_array_equal(read_label(labels).voxels, label)
    assert read_geometry(scan).shape == image.shape
    save_label(tmp_path / "out.nii.gz", label, volume.geometry)
    assert nib.load(tmp_path / "out.nii.gz").shape == image.shape
    np.testing.assert_array_equal(read_label(tmp_path / "out.nii.gz").voxels, label)


# Intensities


def test_a_ct_with_air_and_padding_is_not_doubted(tmp_path):
    padded = ct()
    padded[:, :3] = -3024

    assert read_image(save(tmp_path / "ct.nii.gz", padded)).doubts == ()


@pytest.mark.parametrize("padding", [None, -2000, -3024, -1500])
def test_intensities_without_rescale_are_told_whatever_pads_them(tmp_path, padding):
    stored = ct(air=0)
    if padding:
        stored[:, :3] = stored[:, -3:] = padding

    assert "without rescale slope" in doubts_of(save(tmp_path / "ct.nii.gz", stored))


def test_intensities_of_a_picture_are_told_once(tmp_path):
    volume = read_image(save(tmp_path / "ct.nii.gz", np.clip(ct(), 0, 255).astype(np.uint8)))

    assert len(volume.doubts) == 1 and "ct.nii.gz: hardly any air" in volume.doubts[0]


def test_nothing_but_padding_is_told(tmp_path):
    assert "hardly any air" in doubts_of(save(tmp_path / "ct.nii.gz", np.full(SHAPE, -2000, np.int16)))
