import gzip
import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    ornt_transform,
)
from rounding import assert_close_to_rounding
from tiny_scans import IPL, draw, save

from kitsam.ct.volume import read_image, read_label, save_label
from kitsam.system.errors import CaseError

ORIENTATIONS = [
    "".join(axes) for letters in itertools.permutations(("RL", "AP", "SI")) for axes in itertools.product(*letters)
]


def reoriented(voxels, affine, orientation):
    """The same scan as another program would store it: axes swapped and turned round, the same place in the room."""
    change = ornt_transform(axcodes2ornt("IPL"), axcodes2ornt(orientation))
    return apply_orientation(voxels, change), affine @ inv_ornt_aff(change, voxels.shape)


def test_slope_and_intercept_of_the_file_give_hu(tmp_path):
    path = save(tmp_path / "ct.nii", np.array([[[0, 1000, 1064]]], np.int16))
    content = bytearray(path.read_bytes())
    # nibabel would divide the voxels by the slope on saving; a scanner's file holds them as they are.
    content[112:120] = np.array([2, -1024], "<f4").tobytes()
    path.write_bytes(content)

    assert read_image(path).voxels.tolist() == [[[-1024, 976, 1104]]]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_is_read_into_one_frame_and_written_back_voxel_for_voxel(tmp_path, orientation):
    affine = IPL + np.array([[0, 0, 0, 12.5], [0, 0, 0, -70], [0, 0, 0, 310], [0, 0, 0, 0]])
    image, label = draw()
    stored, own_affine = reoriented(image, affine, orientation)
    assert "".join(nib.aff2axcodes(own_affine)) == orientation
    volume = read_image(save(tmp_path / "ct.nii.gz", stored, own_affine))

    save_label(tmp_path / "label.nii.gz", label, volume.geometry)

    np.testing.assert_array_equal(volume.voxels, image)
    assert volume.spacing == pytest.approx((5.0, 0.8, 0.8))
    written = nib.load(tmp_path / "label.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), reoriented(label, affine, orientation)[0])
    np.testing.assert_array_equal(written.affine, nib.load(tmp_path / "ct.nii.gz").affine)


@given(
    orientation=st.sampled_from(ORIENTATIONS),
    spacing=st.tuples(*[st.sampled_from([0.5, 0.7, 1.25, 3.0, 5.0])] * 3),
    angles=st.tuples(*[st.floats(-0.35, 0.35)] * 3),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
)
@settings(max_examples=40, deadline=None)
def test_an_oblique_scan_goes_to_the_nearest_frame_and_back(tmp_path_factory, orientation, spacing, angles, shape):
    folder = tmp_path_factory.mktemp("oblique")
    image, label = draw(shape=shape)
    affine = nib.affines.from_matvec(turned(angles) @ (IPL[:3, :3] / (5, 0.8, 0.8)) * spacing, (3, 4, 5))
    stored, own_affine = reoriented(image, affine, orientation)
    volume = read_image(save(folder / "ct.nii.gz", stored, own_affine))

    save_label(folder / "label.nii.gz", label, volume.geometry)

    np.testing.assert_array_equal(volume.voxels, image)
    assert volume.spacing == pytest.approx(spacing)
    written = nib.load(folder / "label.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), reoriented(label, affine, orientation)[0])
    # The header holds it in float32, as the scan's did.
    assert_close_to_rounding(written.affine, own_affine, operations=2)


def turned(angles):
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def test_spacing_follows_the_axes_when_they_are_swapped(tmp_path):
    affine = np.diag([-0.7, -0.9, 2.5, 1.0])  # LPS: columns, rows, slices
    path = save(tmp_path / "ct.nii.gz", np.zeros((8, 7, 3), np.int16), affine)

    volume = read_image(path)

    assert volume.voxels.shape == (3, 7, 8)
    assert volume.spacing == pytest.approx((2.5, 0.9, 0.7))


def test_written_labels_are_uint8_without_rescaling_whatever_the_scan_stores(tmp_path):
    image, label = draw()
    scan = nib.Nifti1Image(image.astype(np.float64) / 3, IPL)
    scan.header["cal_max"] = 3000
    scan.header.set_xyzt_units("mm")
    nib.save(scan, tmp_path / "ct.nii.gz")

    save_label(tmp_path / "label.nii.gz", label, read_image(tmp_path / "ct.nii.gz").geometry)

    written = nib.load(tmp_path / "label.nii.gz")
    assert written.get_data_dtype() == np.uint8
    assert written.dataobj.slope == 1 and written.dataobj.inter == 0
    assert written.header["cal_max"] == 0
    assert written.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(read_label(tmp_path / "label.nii.gz").voxels, label)


def test_written_labels_keep_both_transforms_of_the_scan(tmp_path):
    image, label = draw()
    scan = nib.Nifti1Image(image, IPL)
    scan.set_sform(IPL, code=1)
    scan.set_qform(IPL, code=2)
    nib.save(scan, tmp_path / "ct.nii.gz")

    save_label(tmp_path / "label.nii.gz", label, read_image(tmp_path / "ct.nii.gz").geometry)

    written = nib.load(tmp_path / "label.nii.gz").header
    assert (written["sform_code"], written["qform_code"]) == (1, 2)
    np.testing.assert_array_equal(written.get_sform(), nib.load(tmp_path / "ct.nii.gz").get_sform())
    # A rotation comes out of a quaternion of float32 numbers by some ten products.
    assert_close_to_rounding(written.get_qform(), IPL, operations=10)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = save(tmp_path / "ct.nii.gz", np.random.default_rng(0).integers(-99, 99, (9, 20, 20)).astype(np.int16))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    with pytest.raises(CaseError, match=r"ct\.nii\.gz: cannot be read as NIfTI, perhaps truncated"):
        read_image(path)


def test_a_truncated_file_without_compression_is_refused(tmp_path):
    path = save(tmp_path / "ct.nii", draw()[0])
    path.write_bytes(path.read_bytes()[:-7])

    with pytest.raises(CaseError, match=r"ct\.nii: cannot be read"):
        read_image(path)


@given(place=st.floats(0, 1), bit=st.integers(0, 7))
@settings(max_examples=50, deadline=None)
def test_no_damaged_bit_of_a_compressed_scan_gives_wrong_voxels(tmp_path_factory, place, bit):
    path = tmp_path_factory.mktemp("damaged") / "ct.nii.gz"
    save(path, np.random.default_rng(0).integers(-99, 99, (9, 20, 20)).astype(np.int16))
    content = bytearray(path.read_bytes())
    start = 64  # past gzip's own header, whose name and time nobody reads
    content[start + int(place * (len(content) - start - 1))] ^= 1 << bit
    path.write_bytes(content)

    with pytest.raises(CaseError, match=r"ct\.nii\.gz"):
        read_image(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(gzip.compress(b"<html>not found</html>" * 100))

    with pytest.raises(CaseError, match=r"ct\.nii\.gz: cannot be read as NIfTI"):
        read_image(path)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 2)])
def test_a_volume_that_is_not_3d_is_refused_with_its_shape(tmp_path, shape):
    path = save(tmp_path / "ct.nii.gz", np.zeros(shape, np.int16))

    with pytest.raises(CaseError, match=r"ct\.nii\.gz: expected a 3-D volume, found shape \(4, 5"):
        read_image(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_with_values_that_are_no_numbers_is_refused(tmp_path, value):
    image = draw()[0].astype(np.float32)
    image[1, 2, 3] = value

    with pytest.raises(CaseError, match=r"ct\.nii\.gz: holds NaN or infinite"):
        read_image(save(tmp_path / "ct.nii.gz", image))


def test_a_color_image_is_refused(tmp_path):
    colors = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])

    with pytest.raises(CaseError, match=r"ct\.nii\.gz: expected a number per voxel"):
        read_image(save(tmp_path / "ct.nii.gz", colors))


@pytest.mark.parametrize("scale", [0, np.nan])
def test_an_affine_that_gives_no_directions_is_refused(tmp_path, scale):
    path = save(tmp_path / "ct.nii", draw()[0])
    content = bytearray(path.read_bytes())
    content[280:328] = (IPL[:3] * scale).astype("<f4").tobytes()
    path.write_bytes(content)

    with pytest.raises(CaseError, match=r"ct\.nii: the affine does not say how the axes lie"):
        read_image(path)


def test_a_header_with_an_unknown_number_format_is_refused(tmp_path):
    path = save(tmp_path / "ct.nii", draw()[0])
    content = bytearray(path.read_bytes())
    content[70:72] = (9999).to_bytes(2, "little")
    path.write_bytes(content)

    with pytest.raises(CaseError, match=r"ct\.nii: cannot be read"):
        read_image(path)
