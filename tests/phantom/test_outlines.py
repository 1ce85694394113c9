import numpy as np
import pytest

from kitsam.ct.labels import CYST, KIDNEY, TUMOR
from kitsam.phantom.outlines import MARGIN, between, find_frame, find_section

PIXEL = (1.0, 1.0)  # mm


def disc(radius, middle=40.0, size=81):
    y, x = np.indices((size, size))
    return np.hypot(y - middle, x - middle) < radius


def test_distances_are_those_from_the_outline_of_a_disc():
    section = find_section(np.where(disc(20), KIDNEY, 0).astype(np.uint8), PIXEL)
    y, x = np.indices((81, 81))
    true = np.hypot(y - 40, x - 40) - 20
    near = np.abs(true) < 12

    assert np.abs(section.whole - true)[near].max() < 1.5
    assert (section.tumor > 10).all() and (section.cyst > 10).all()
    assert section.whole.dtype == np.float32


def test_the_hull_spans_the_mouth_of_the_sinus():
    label = np.where(disc(25), KIDNEY, 0).astype(np.uint8)
    label[36:45, 40:] = 0
    section = find_section(label, PIXEL)

    assert section.whole[40, 55] > 0 and section.hull[40, 55] < -5


def test_each_lesion_has_its_outline():
    label = np.where(disc(20), KIDNEY, 0).astype(np.uint8)
    label[disc(6, 34)], label[disc(5, 47)] = TUMOR, CYST
    section = find_section(label, PIXEL)

    assert section.tumor[34, 34] < -4 < 0 < section.tumor[47, 47]
    assert section.cyst[47, 47] < -3 < 0 < section.cyst[34, 34]


def test_halfway_between_two_discs_lies_the_one_between():
    small, large = (find_section(np.where(disc(radius), KIDNEY, 0).astype(np.uint8), PIXEL) for radius in (12, 20))
    areas = [(section.whole < 0).sum() for section in (small, between(small, large, 0.5, 5.0), large)]

    assert np.sqrt(areas[1] / np.pi) == pytest.approx(16, abs=0.5)
    assert areas[0] < areas[1] < areas[2]


def test_an_organ_ends_on_the_way_to_a_slice_without_it():
    last = find_section(np.where(disc(12), KIDNEY, 0).astype(np.uint8), PIXEL)
    areas = [(between(last, None, share, 5.0).whole < 0).sum() for share in (0, 0.2, 0.4)]

    assert areas[0] > areas[1] > areas[2] > 0
    assert find_section(np.zeros((9, 9), np.uint8), PIXEL) is None and between(None, None, 0.3, 5.0) is None


def test_the_frame_holds_all_labels_with_room_around():
    label = np.zeros((3, 100, 90), np.uint8)
    label[0, 50, 40], label[2, 60, 89] = KIDNEY, TUMOR
    frame = find_frame(label, (1.0, 2.0))

    assert frame.rows.start <= 50 - MARGIN and frame.rows.stop >= 61 + MARGIN
    assert frame.columns.start <= 40 - MARGIN / 2 and frame.columns.stop == 90
