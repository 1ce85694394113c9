import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kitsam.ct.instances import find_instances

PIXEL = (1.0, 1.0)


def kidney(volume, z, rows, columns):
    volume[z, rows[0] : rows[1], columns[0] : columns[1]] = True
    return volume


def test_two_kidneys_of_a_slice_get_a_box_each():
    roi = kidney(kidney(np.zeros((3, 60, 100), bool), 1, (20, 40), (10, 30)), 1, (22, 38), (70, 95))
    found = find_instances(roi, PIXEL, 8, 25)
    assert found.slices.tolist() == [1, 1]
    assert found.boxes.tolist() == [[10, 20, 30, 40], [70, 22, 95, 38]]
    assert set(np.unique(found.labels)) == {0, 1, 2}


def test_near_parts_share_a_box_and_distant_ones_do_not():
    roi = kidney(kidney(np.zeros((1, 60, 100), bool), 0, (20, 40), (10, 30)), 0, (20, 40), (35, 50))
    assert find_instances(roi, PIXEL, 8, 25).boxes.tolist() == [[10, 20, 50, 40]]
    assert len(find_instances(roi, PIXEL, 2, 25).boxes) == 2
    # The same pixels four times as far apart in mm.
    assert len(find_instances(roi, (4.0, 4.0), 8, 25).boxes) == 2


def test_kidneys_of_neighboring_slices_are_not_joined():
    roi = kidney(kidney(np.zeros((2, 30, 30), bool), 0, (5, 15), (5, 15)), 1, (5, 15), (5, 15))
    assert find_instances(roi, PIXEL, 8, 25).slices.tolist() == [0, 1]


def test_specks_get_no_box_unless_they_are_all_there_is():
    roi = kidney(kidney(np.zeros((2, 60, 60), bool), 0, (5, 25), (5, 25)), 0, (50, 52), (50, 52))
    roi = kidney(roi, 1, (50, 52), (50, 53))
    found = find_instances(roi, PIXEL, 8, 25)
    assert found.slices.tolist() == [0, 1]
    assert found.boxes.tolist() == [[5, 5, 25, 25], [50, 50, 53, 52]]
    assert not found.labels[0, 50, 50]


def test_an_empty_volume_has_no_instances():
    found = find_instances(np.zeros((2, 9, 9), bool), PIXEL, 8, 25)
    assert len(found.boxes) == len(found.slices) == 0 and not found.labels.any()


@given(hnp.arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 24), st.integers(1, 24))), st.floats(0.3, 3))
def test_every_slice_with_roi_has_a_box_and_boxes_are_tight(roi, mm):
    found = find_instances(roi, (mm, mm), 8, 25)
    assert set(found.slices.tolist()) == set(np.flatnonzero(roi.any(axis=(1, 2))).tolist())
    for number, (z, box) in enumerate(zip(found.slices, found.boxes.astype(int)), 1):
        rows, columns = np.nonzero(found.labels[z] == number)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert not found.labels[~roi].any()
