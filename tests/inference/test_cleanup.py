"""Holes, and parts too small to be true: the same as on the whole volume, in place and in little memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from kitsam.ct import boxes
from kitsam.ct.labels import CYST, KIDNEY, TUMOR
from kitsam.inference.cleanup import clean_roi, drop_small_lesions

SPACING = (5.0, 1.0, 1.0)
SHAPE = (4, 40, 40)


def roi_of(mask: np.ndarray, spacing: tuple[float, float, float], smallest: float) -> np.ndarray:
    """(S, H, W) bool -> (S, H, W) bool: the ROI once it is clean."""
    label = mask.astype(np.uint8)
    clean_roi(label, spacing, smallest)
    return label == KIDNEY


def lesions_of(label: np.ndarray, spacing: tuple[float, float, float], smallest: float) -> np.ndarray:
    cleaned = label.copy()
    drop_small_lesions(cleaned, spacing, smallest)
    return cleaned


def test_parts_are_measured_in_milliliters():
    roi = np.zeros(SHAPE, bool)
    roi[1:3, 0:10, 0:10] = True  # 2 x 5 mm x 100 mm2 = 1 mL
    assert roi_of(roi, SPACING, 0.99).sum() == 200 and not roi_of(roi, SPACING, 1.01).any()
    label = np.where(roi, TUMOR, 0).astype(np.uint8)
    assert (lesions_of(label, SPACING, 1.01)[roi] == KIDNEY).all()
    assert (lesions_of(label, SPACING, 0.99) == label).all()


def test_a_part_that_the_scan_cuts_goes_on_as_far_as_it_is_wide():
    thin = (0.5, 1.0, 1.0)
    for end in (0, SHAPE[0] - 1):
        roi = np.zeros(SHAPE, bool)
        roi[end, 0:20, 0:20] = True  # 0.2 mL are seen, 20 mm x 400 mm2 more are taken to follow
        assert roi_of(roi, thin, 8.1).sum() == 400 and not roi_of(roi, thin, 8.3).any()
    single = np.full((1, 20, 20), TUMOR, np.uint8)
    assert (lesions_of(single, thin, 16.1) == TUMOR).all()


def test_a_hole_is_closed_and_what_is_open_to_the_edge_or_to_the_next_slice_only_is_treated_so():
    roi = np.zeros((3, 12, 12), bool)
    roi[:, 2:8, 2:8] = True
    roi[0, 4:6, 4:6] = False  # a hole of its slice, open to nothing in it
    roi[1, 4, 0:6] = False  # a bay
    roi[2, 0:3, 9:12] = roi[2, 10:12, 0:3] = False
    assert roi_of(roi, SPACING, 0)[0, 2:8, 2:8].all() and not roi_of(roi, SPACING, 0)[1, 4, 0:6].any()
    ring = np.zeros((1, 6, 6), bool)
    ring[0, :4, 0] = ring[0, :4, 3] = ring[0, 3, :4] = True  # the slice's edge closes nothing
    assert (roi_of(ring, SPACING, 0) == ring).all()


def whole_volume_small_parts(mask, spacing, smallest):
    parts, count = ndimage.label(mask)
    small = np.zeros(mask.shape, bool)
    for number in range(1, count + 1):
        part = parts == number
        cuts = [part[end].sum() * (spacing[1] * spacing[2]) for end in (0, -1)]
        volume = part.sum() * np.prod(spacing) + sum(cut**1.5 for cut in cuts)
        small |= part & (volume < smallest * 1000)
    return small


def clean_whole_volume(label, spacing, smallest):
    """What both functions do, with scipy: the ROI of `label`, and its lesions."""
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = True
    roi = ndimage.binary_fill_holes(label > 0, in_plane)
    lesions = label.copy()
    for lesion in (TUMOR, CYST):
        lesions[whole_volume_small_parts(label == lesion, spacing, smallest)] = KIDNEY
    return roi & ~whole_volume_small_parts(roi, spacing, smallest), lesions


SNAKE = np.zeros((9, 7, 7), np.uint8)  # one part through all slices, across itself
SNAKE[np.arange(9), 3, [6, 5, 4, 3, 2, 1, 0, 0, 0]] = SNAKE[np.arange(8), 3, [5, 4, 3, 2, 1, 0, 0, 0]] = TUMOR


@pytest.mark.parametrize("slab_bytes", [boxes.SLAB_BYTES, 0], ids=["one slab", "slabs of a slice"])
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(label=SNAKE, smallest=0.015)
@given(
    label=hnp.arrays(
        np.uint8,
        st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
        elements=st.sampled_from([0, 0, 0, 1, 1, 2, 3]),
    ),
    smallest=st.sampled_from([0.0, 0.001, 0.004, 0.01, 0.03]),
)
def test_the_boxes_give_what_the_whole_volume_gives(slab_bytes, label, smallest, monkeypatch):
    monkeypatch.setattr(boxes, "SLAB_BYTES", slab_bytes)
    roi, lesions = clean_whole_volume(label, (2.0, 1.0, 0.5), smallest)
    assert (roi_of(label > 0, (2.0, 1.0, 0.5), smallest) == roi).all()
    assert (lesions_of(label, (2.0, 1.0, 0.5), smallest) == lesions).all()


def test_false_voxels_in_all_corners_take_less_memory_than_the_volume(monkeypatch):
    monkeypatch.setattr(boxes, "SLAB_BYTES", 1 << 18)
    label = np.zeros((120, 256, 256), np.uint8)
    label[20:100, 60:120, 60:200] = KIDNEY
    label[:, ::255, ::255] = KIDNEY
    tracemalloc.start()
    try:
        clean_roi(label, (1.0, 0.8, 0.8), 2.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < label.nbytes and not label[:, 0, 0].any() and label[50, 80, 80] == KIDNEY
