import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitsam.ct.body import BodyBox, find_body

PIXEL = (0.8, 0.8)  # mm


def torso(shape: tuple[int, int, int], box: BodyBox, air: float = -1000.0) -> np.ndarray:
    """HU of an ellipse of tissue that fills the box on each slice, with fat, a vessel of contrast and noise in it."""
    rows, columns = np.indices(shape[1:])
    middle = (box.top + box.bottom - 1) / 2, (box.left + box.right - 1) / 2
    radii = box.shape[0] / 2, box.shape[1] / 2
    away = ((rows - middle[0]) / radii[0]) ** 2 + ((columns - middle[1]) / radii[1]) ** 2
    slice_ = np.where(away < 1, 50.0, air)
    slice_[(away < 0.4) & (away > 0.2)] = -100
    slice_[away < 0.02] = 300
    return slice_ + np.random.default_rng(0).normal(0, 15, shape)


@given(top=st.integers(0, 90), left=st.integers(0, 70), height=st.integers(120, 160), width=st.integers(150, 180))
def test_it_finds_the_body_to_a_few_cells(top, left, height, width):
    box = BodyBox(top, left, top + height, left + width)
    found = find_body(torso((2, 256, 256), box), PIXEL)
    assert np.abs(np.subtract(found, box)).max() * PIXEL[0] <= 16  # mm


def test_the_table_the_skin_and_a_line_of_contrast_are_none_of_it():
    box = BodyBox(60, 40, 180, 210)
    voxels = torso((1, 256, 256), box)
    alone = find_body(voxels, PIXEL)
    voxels[:, 215:218, 20:240] = 200  # the table's edge
    voxels[:, 10:12, 5:250] = 3000
    assert find_body(voxels, PIXEL) == alone


def test_air_that_was_clipped_to_0_is_air_too():
    box = BodyBox(60, 40, 180, 210)
    voxels = torso((2, 256, 256), box)
    assert find_body(voxels.clip(0, 255), PIXEL) == find_body(voxels, PIXEL)


def test_it_holds_the_body_of_every_slice():
    first, last = BodyBox(60, 40, 180, 210), BodyBox(40, 60, 160, 230)
    each = [torso((1, 256, 256), box) for box in (first, last)]
    alone = np.array([find_body(voxels, PIXEL) for voxels in each])
    union = (*alone[:, :2].min(0), *alone[:, 2:].max(0))
    assert find_body(np.concatenate(each), PIXEL) == BodyBox(*union)


@pytest.mark.parametrize("hounsfield", [-1000.0, 0.0])
def test_without_a_body_slices_stay_whole(hounsfield):
    assert find_body(np.full((2, 60, 50), hounsfield), PIXEL) == BodyBox(0, 0, 60, 50)


def test_what_is_cut_can_be_put_back():
    volume = np.arange(2 * 6 * 5).reshape(2, 6, 5)
    box = BodyBox(1, 2, 5, 4)
    back = box.put_back(box.cut(volume), volume.shape)
    assert (back[:, 1:5, 2:4] == volume[:, 1:5, 2:4]).all() and back.sum() == volume[:, 1:5, 2:4].sum()
