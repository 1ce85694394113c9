import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from tiny_scans import save

from kitsam.ct.case import find_cases, read_case
from kitsam.ct.labels import CYST, KIDNEY, TUMOR
from kitsam.phantom.cases import make_case, run
from kitsam.phantom.config import PhantomConfig
from kitsam.system.errors import OptionError

TINY = {"size": 64, "slices": 10}


@pytest.fixture(scope="module")
def patients():
    """Thirty small cases: image, label, spacing."""
    return [make_case(index, size=64, slices=20, seed=5) for index in range(30)]


def inside(image, label, kind):
    """HU of a class away from its outline, where noise and blur alone blur it."""
    core = label == kind
    for axis in (1, 2):
        core &= np.roll(core, 1, axis) & np.roll(core, -1, axis)
    return image[core]


def test_a_case_has_hu_labels_and_a_field_of_view_of_a_body(patients):
    for image, label, (slice_spacing, rows, columns) in patients:
        assert image.dtype == np.int16 and label.dtype == np.uint8
        assert image.shape == label.shape == (20, 64, 64)
        assert image.min() >= -1024 and image.max() <= 3071
        assert rows == columns and 360 < 64 * rows < 440
        assert 170 < 20 * slice_spacing < 260


@pytest.mark.parametrize("settings", [TINY, {"size": 32, "slices": 6}, {"size": 48, "slices": 64}])
def test_every_case_shows_kidney_and_tumor_in_several_slices_however_coarse(settings):
    for index in range(12):
        label = make_case(index, seed=1, **settings)[1]

        assert (label == KIDNEY).any(axis=(1, 2)).sum() >= 2
        assert (label == TUMOR).any(axis=(1, 2)).sum() >= 2


def test_about_half_of_the_patients_have_a_cyst_and_few_have_one_kidney(patients):
    with_cyst = sum((label == CYST).any() for _, label, _ in patients)
    one_sided = sum(not label[..., :32].any() or not label[..., 32:].any() for _, label, _ in patients)

    assert 8 <= with_cyst <= 22
    assert one_sided <= 6


def test_kidneys_lie_where_they_lie_in_kits(patients):
    places = {0: [], 1: []}
    for _, label, _ in patients:
        for half, found in places.items():
            voxels = np.argwhere(label[..., 32 * half : 32 * half + 32] == KIDNEY)
            if len(voxels):
                found.append(((voxels[:, 1].mean() + 0.5) / 64, (voxels[:, 2].mean() + 0.5) / 64 + half / 2))

    assert np.mean(places[0], axis=0) == pytest.approx((0.59, 0.32), abs=0.03)
    assert np.mean(places[1], axis=0) == pytest.approx((0.59, 0.69), abs=0.03)


def test_sizes_are_those_of_kits(patients):
    share = np.mean([(label > 0).any(axis=(1, 2)).mean() for _, label, _ in patients])
    tumors = [(label == TUMOR).sum() * np.prod(spacing) / 1000 for _, label, spacing in patients]

    assert 0.33 < share < 0.6
    assert 15 < np.median(tumors) < 70


def test_a_tumor_touches_the_kidney_and_grows_out_of_it(patients):
    touching = [(binary_dilation(label == TUMOR) & (label == KIDNEY)).any() for _, label, _ in patients]

    assert all(touching)


def test_tissues_have_the_hu_of_contrast_enhanced_ct(patients):
    medians = {kind: [] for kind in (KIDNEY, TUMOR, CYST)}
    for image, label, _ in patients:
        for kind, found in medians.items():
            if len(hu := inside(image, label, kind)) > 20:
                found.append(np.median(hu))

    assert 120 < np.median(medians[KIDNEY]) < 220
    assert 20 < np.median(medians[TUMOR]) < 120
    assert -15 < np.median(medians[CYST]) < 40
    corners = [image[:, :4, :4].mean() for image, _, _ in patients]
    assert np.mean(corners) == pytest.approx(-1000, abs=20)


def test_the_liver_is_on_the_left_of_the_image_and_the_spine_in_the_middle(patients):
    image = np.mean([image for image, _, _ in patients], axis=0)
    upper = image[:5]

    assert upper[:, 16:40, 12:28].mean() > upper[:, 16:40, 36:52].mean() + 20
    assert abs(np.argmax(image[:, 36:44].max(axis=(0, 1))) - 31.5) < 4


def test_a_case_depends_on_seed_and_number_alone():
    image, label, spacing = make_case(3, seed=7, **TINY)
    again = make_case(3, seed=7, **TINY)

    np.testing.assert_array_equal(image, again[0])
    np.testing.assert_array_equal(label, again[1])
    assert spacing == again[2]
    assert not np.array_equal(label, make_case(4, seed=7, **TINY)[1])
    assert not np.array_equal(label, make_case(3, seed=8, **TINY)[1])


def test_more_pixels_show_the_same_patient_more_finely():
    fine, coarse = make_case(0, 128, 20, 0), make_case(0, 64, 20, 0)

    for kind in (KIDNEY, TUMOR):
        volumes = [(label == kind).sum() * np.prod(spacing) for _, label, spacing in (fine, coarse)]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.15)


def test_the_command_writes_a_data_set_as_kits_does(tmp_path, capsys):
    assert run(PhantomConfig(tmp_path / "data", cases=2, seed=4, **TINY)) == 0

    files = find_cases(tmp_path / "data")
    assert list(files) == ["case_00000", "case_00001"]
    stored = nib.load(files["case_00001"].imaging)
    image, label, spacing = make_case(1, seed=4, **TINY)
    assert "".join(nib.aff2axcodes(stored.affine)) == "IPL"
    assert stored.header.get_zooms() == pytest.approx(spacing)
    assert stored.get_data_dtype() == np.int16
    assert nib.load(files["case_00001"].segmentation).get_data_dtype() == np.uint8
    case = read_case(files["case_00001"])
    np.testing.assert_array_equal(case.image, image)
    np.testing.assert_array_equal(case.label, label)
    assert case.spacing == pytest.approx(spacing)
    assert "2 cases" in capsys.readouterr().out


def test_the_same_options_write_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        run(PhantomConfig(tmp_path / name, cases=1, **TINY))

    for name in ("imaging.nii.gz", "segmentation.nii.gz"):
        first, second = (tmp_path / out / "case_00000" / name for out in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


def test_the_command_may_write_over_its_own_cases(tmp_path):
    for seed in (0, 1):
        assert run(PhantomConfig(tmp_path / "data", cases=1, seed=seed, **TINY)) == 0

    np.testing.assert_array_equal(
        read_case(find_cases(tmp_path / "data")["case_00000"]).label, make_case(0, seed=1, **TINY)[1]
    )


def test_scans_of_patients_are_never_written_over(tmp_path):
    path = save(tmp_path / "case_00000" / "imaging.nii.gz", np.zeros((3, 4, 5), np.int16))
    before = path.read_bytes()

    with pytest.raises(OptionError, match=r"OUT: .*imaging\.nii\.gz was not made by"):
        run(PhantomConfig(tmp_path, cases=1, **TINY))
    assert path.read_bytes() == before


def test_a_folder_with_anything_but_the_cases_to_make_is_refused(tmp_path):
    run(PhantomConfig(tmp_path / "data", cases=2, **TINY))

    with pytest.raises(OptionError, match="OUT: .* holds case_00001"):
        run(PhantomConfig(tmp_path / "data", cases=1, **TINY))


@pytest.mark.parametrize("option", ["cases", "size", "slices", "seed"])
def test_numbers_that_draw_nothing_are_refused_with_the_name_of_the_option(tmp_path, option):
    with pytest.raises(OptionError, match=f"--{option}: must be at least .*, not -1"):
        run(PhantomConfig(tmp_path / "data", **{"cases": 1, **TINY, option: -1}))
    assert not (tmp_path / "data").exists()
