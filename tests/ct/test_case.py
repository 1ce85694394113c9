import numpy as np
import pytest
from tiny_scans import draw, save

from kitsam.ct.case import find_cases, read_case
from kitsam.system.errors import CaseError, OptionError


def only_case(data):
    return find_cases(data)["case_00000"]


# What a case holds


def test_a_case_holds_hu_labels_and_spacing_with_slices_first(scan):
    case = read_case(only_case(scan.data))

    assert case.image.dtype == np.float32 and case.label.dtype == np.uint8
    np.testing.assert_array_equal(case.image, scan.image)
    np.testing.assert_array_equal(case.label, scan.label)
    assert case.spacing == pytest.approx((5.0, 0.8, 0.8))


def test_without_need_of_labels_the_segmentation_is_not_opened(scan):
    scan.segmentation.write_bytes(b"not a scan")

    assert read_case(only_case(scan.data), needs_label=False).label is None


def test_cases_of_nnunet_are_found_with_their_labels(tmp_path):
    image, label = draw()
    save(tmp_path / "imagesTr" / "kidney_7_0000.nii.gz", image)
    save(tmp_path / "labelsTr" / "kidney_7.nii.gz", label)

    cases = find_cases(tmp_path)

    assert list(cases) == ["kidney_7"]
    np.testing.assert_array_equal(read_case(cases["kidney_7"]).label, label)


def test_cases_come_sorted_by_name_and_other_folders_are_passed_over(tmp_path):
    for name in ("case_00010", "case_00002"):
        save(tmp_path / name / "imaging.nii.gz", draw()[0])
    (tmp_path / "notes").mkdir()

    assert list(find_cases(tmp_path)) == ["case_00002", "case_00010"]


def test_a_case_without_its_image_is_found_so_that_it_can_be_reported(scan):
    scan.imaging.unlink()

    with pytest.raises(CaseError, match=r"imaging\.nii\.gz: no such file"):
        read_case(only_case(scan.data))


# What is refused


def test_a_missing_folder_is_refused_with_the_name_of_the_option(tmp_path):
    with pytest.raises(OptionError, match="--data: no such folder"):
        find_cases(tmp_path / "nowhere")


def test_a_folder_without_cases_is_refused_saying_what_was_expected(tmp_path):
    with pytest.raises(OptionError, match=r"--data: no case in .*imaging\.nii\.gz"):
        find_cases(tmp_path)


def test_a_name_with_a_dot_is_refused(tmp_path):
    save(tmp_path / "case.1" / "imaging.nii.gz", draw()[0])

    with pytest.raises(CaseError, match=r"case\.1.*may not hold a dot"):
        read_case(find_cases(tmp_path)["case.1"])


def test_a_missing_segmentation_is_refused(scan):
    scan.segmentation.unlink()

    with pytest.raises(CaseError, match=r"segmentation\.nii\.gz: no such file"):
        read_case(only_case(scan.data))


@pytest.mark.parametrize(("value", "said"), [(7, "7"), (1.5, "1.5"), (-1, "-1"), (np.nan, "nan"), (257, "257")])
def test_a_label_that_is_no_class_is_refused_with_its_value(scan, value, said):
    label = scan.label.astype(np.float32)
    label[2, 3, 4] = value
    save(scan.segmentation, label)

    with pytest.raises(CaseError, match=rf"segmentation\.nii\.gz: label {said} is none of"):
        read_case(only_case(scan.data))


def test_labels_stored_as_floating_point_are_taken(scan):
    save(scan.segmentation, scan.label.astype(np.float64))

    np.testing.assert_array_equal(read_case(only_case(scan.data)).label, scan.label)


def test_a_label_of_another_shape_than_its_scan_is_refused_with_both_shapes(scan):
    save(scan.segmentation, scan.label[:, 1:])

    with pytest.raises(
        CaseError, match=r"segmentation\.nii\.gz: shape \(4, 5, 5\) differs from the scan's \(4, 6, 5\)"
    ):
        read_case(only_case(scan.data))
