"""Connected parts and holes as scipy finds them; how parts are joined across boxes is in test_cleanup, test_lesions."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from kitsam.ct.parts import CORNERS, FACES, number_parts
from kitsam.ct.planes import fill_holes, number_in_planes

STRUCTURES = {FACES: ndimage.generate_binary_structure(3, 1), CORNERS: ndimage.generate_binary_structure(3, 3)}
IN_PLANE = np.zeros((3, 3, 3), bool)
IN_PLANE[1] = True

masks = hnp.arrays(bool, st.tuples(*[st.integers(1, 7)] * 3))
ROW = np.array([[[True, False, True, False, True]]])
# As many parts as an odd size can hold.
LATTICE = np.zeros((3, 3, 3), bool)
LATTICE[::2, ::2, ::2] = True


@pytest.mark.parametrize("neighbors", [FACES, CORNERS])
@example(mask=ROW)
@example(mask=LATTICE)
@given(mask=masks)
def test_parts_have_the_numbers_that_scipy_gives_them(neighbors, mask):
    numbers, count = number_parts(mask, neighbors)
    expected, expected_count = ndimage.label(mask, STRUCTURES[neighbors])
    assert count == expected_count and (numbers == expected).all()


@example(mask=LATTICE)
@given(mask=masks)
def test_parts_of_each_slice_have_the_numbers_that_scipy_gives_them(mask):
    numbers, count = number_in_planes(mask)
    expected, expected_count = ndimage.label(mask, IN_PLANE)
    assert count == expected_count and (numbers == expected).all()


@given(mask=masks)
def test_holes_are_those_that_scipy_fills(mask):
    assert (fill_holes(mask) == ndimage.binary_fill_holes(mask, IN_PLANE)).all()
