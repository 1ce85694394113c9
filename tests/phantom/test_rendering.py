import numpy as np
import pytest
from kidney_labels import SHAPE, SPACING, kidney_labels
from scipy.ndimage import binary_dilation, binary_erosion

from kitsam.ct.labels import CYST, KIDNEY, TUMOR
from kitsam.phantom.canvas import FAT
from kitsam.phantom.fitting import fit_patient
from kitsam.phantom.rendering import plane_shares, render

CORE = np.ones((1, 5, 5), bool)


@pytest.fixture(scope="module")
def label():
    return kidney_labels()


@pytest.fixture(scope="module")
def scans(label):
    """Eight patients with the same label map, (8, S, H, W)."""
    return np.stack([render(label, SPACING, f"case_{number}") for number in range(8)])


def test_a_ct_has_the_label_maps_shape_and_hu_of_12_bits(scans):
    assert scans.dtype == np.int16 and scans.shape[1:] == SHAPE
    assert scans.min() >= -1024 and scans.max() <= 3071


def test_classes_have_the_hu_of_contrast_enhanced_ct(scans, label):
    means = {kind: [scan[binary_erosion(label == kind, CORE)].mean() for scan in scans] for kind in (1, 2, 3)}

    assert all(60 < mean < 230 for mean in means[KIDNEY]) and 90 < np.median(means[KIDNEY]) < 180
    assert all(10 < mean < 200 for mean in means[TUMOR]) and 35 < np.median(means[TUMOR]) < 130
    assert all(-15 < mean < 70 for mean in means[CYST]) and -5 < np.median(means[CYST]) < 25
    # Tumors are of several kinds: some far darker than the kidney, some like it.
    ratio = np.divide(means[TUMOR], means[KIDNEY])
    assert ratio.min() < 0.55 and ratio.max() > 0.7


def test_kidneys_lie_in_fat_in_a_body_in_air(scans, label):
    around = binary_dilation(label > 0, CORE) & ~binary_dilation(label > 0, np.ones((3, 3, 3), bool))
    assert -110 < np.median(scans[:, around]) < -20
    assert scans[:, :, :3, :3].mean() < -980
    inner = scans[:, :, 40:90, 30:98]
    assert (inner > -500).mean() > 0.9


def test_the_spine_lies_between_the_kidneys_and_behind_them(scans):
    columns = (scans[:, :, 60:105] > 250).mean(axis=(0, 1, 2))
    middle = (columns * np.arange(128)).sum() / columns.sum()

    assert middle == pytest.approx((122 + 264) / 2 / 3, abs=3)


def rings(mask):
    """(S, H, W) bool each, from the outside in: the voxels around the mask, its outermost ones, and the next."""
    square = np.ones((1, 3, 3), bool)
    inner = binary_erosion(mask, square)
    return binary_dilation(mask, square) & ~mask, mask & ~inner, inner & ~binary_erosion(inner, square)


def test_voxels_on_an_outline_hold_a_share_of_both_sides():
    label = np.minimum(kidney_labels(pixel=1.0), KIDNEY)[4:7]
    outer, edge, inner = (ring[1] for ring in rings(label == KIDNEY))
    shares = []
    for number in range(6):
        scan = render(label, (2.0, 1.0, 1.0), f"case_{number}")[1]
        high = np.median(scan[inner])
        shares.append([(np.median(scan[ring]) - FAT) / (high - FAT) for ring in (outer, edge)])

    outside, inside = np.mean(shares, axis=0)
    # In slices so thin no planes are averaged; a step would give 0 and 1.
    assert 0.07 < outside < 0.5 < inside < 0.93


def test_a_slice_at_the_end_of_a_kidney_shows_it_in_part():
    label = np.zeros((6, *SHAPE[1:]), np.uint8)
    label[:4, 60:85, 30:50] = label[:4, 60:85, 80:100] = KIDNEY
    _, edge, _ = rings(label[:4] > 0)
    drops = []
    for number in range(3):
        scan = render(label, SPACING, f"case_{number}")
        drops.append(scan[1][edge[1]].mean() - scan[3][edge[3]].mean())

    # Its outline moves inward on the way to the next slice, which has none.
    assert np.mean(drops) > 15


@pytest.mark.parametrize(("mm", "shares"), [(0.5, [0]), (2.5, [-0.25, 0.25]), (5.0, [-1 / 3, 0, 1 / 3])])
def test_planes_are_spread_over_a_slice(mm, shares):
    assert plane_shares(mm) == pytest.approx(shares)


def test_name_and_seed_decide_everything(label):
    few = label[3:7]
    first = render(few, SPACING, "case_00001", seed=3)

    np.testing.assert_array_equal(first, render(few.copy(), SPACING, "case_00001", seed=3))
    assert (first != render(few, SPACING, "case_00002", seed=3)).mean() > 0.5
    assert (first != render(few, SPACING, "case_00001", seed=4)).mean() > 0.5


def test_a_patient_is_fitted_to_one_kidney_as_to_two(label):
    both = fit_patient(np.random.default_rng(0), label, SPACING)
    label = np.where(np.arange(128) < 64, label, 0).astype(np.uint8)
    one = fit_patient(np.random.default_rng(0), label, SPACING)

    assert [kidney.side for kidney in both.patient.kidneys] == [-1, 1]
    assert [kidney.side for kidney in one.patient.kidneys] == [-1]
    assert both.origin[2] == pytest.approx(193, abs=5) and one.origin[2] == pytest.approx(63.5 * 3)
    assert both.patient.kidneys[0].y == pytest.approx(34, abs=8)


def test_the_body_holds_labels_however_far_they_reach(label):
    label = label.copy()
    label[5, 20:100, 6:60] = TUMOR
    patient = fit_patient(np.random.default_rng(0), label, SPACING).patient

    assert patient.width > 190
