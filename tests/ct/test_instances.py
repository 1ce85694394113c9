import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from kitsam.ct import boxes
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


def test_an_empty_volume_has_no_instances():
    found = find_instances(np.zeros((2, 9, 9), bool), PIXEL, 8, 25)
    assert len(found.boxes) == len(found.slices) == 0


def instances_by_scipy(roi, pixel, merge, smallest):
    """The same on the whole volume, part by part."""
    reach = [1, *(2 * int(merge / 2 / mm) + 1 for mm in pixel)]
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = True
    numbers, count = ndimage.label(ndimage.maximum_filter(roi, size=reach, mode="constant"), in_plane)
    found = []
    for number in range(1, count + 1):
        z, rows, columns = np.nonzero((numbers == number) & roi)
        found.append((z[0], [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], len(z)))
    slices = sorted({z for z, *_ in found})
    largest = {z: max((one for one in found if one[0] == z), key=lambda one: one[2]) for z in slices}  # the first
    keep = [one for one in found if one[2] * pixel[0] * pixel[1] >= smallest or one is largest[one[0]]]
    return [z for z, *_ in keep], [box for _, box, _ in keep]


@pytest.mark.parametrize("slab_bytes", [boxes.SLAB_BYTES, 0], ids=["one slab", "slabs of a slice"])
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    roi=hnp.arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 24), st.integers(1, 24))),
    pixel=st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)),
    merge=st.sampled_from([0, 2, 8]),
)
def test_instances_are_those_of_the_whole_volume_in_the_same_order(slab_bytes, roi, pixel, merge, monkeypatch):
    monkeypatch.setattr(boxes, "SLAB_BYTES", slab_bytes)
    found = find_instances(roi, pixel, merge, 25)
    assert (found.slices.tolist(), found.boxes.tolist()) == instances_by_scipy(roi, pixel, merge, 25)
    assert set(found.slices.tolist()) == set(np.flatnonzero(roi.any(axis=(1, 2))).tolist())
