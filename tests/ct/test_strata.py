import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitsam.ct.strata import STRATA, negative_ratio, stratum_of

pixels = st.tuples(*[st.integers(0, 10**9)] * 4)


@pytest.mark.parametrize(
    ("counts", "stratum"),
    [
        ((100, 0, 0, 0), "background"),
        ((90, 10, 0, 0), "kidney"),
        ((80, 10, 10, 0), "tumor"),
        ((80, 0, 1, 0), "tumor"),
        ((80, 10, 0, 1), "cyst"),
        ((70, 10, 10, 10), "tumor_cyst"),
        ((0, 0, 1, 1), "tumor_cyst"),
    ],
)
def test_a_slice_belongs_to_the_stratum_of_its_lesions_then_of_its_kidney(counts, stratum):
    assert stratum_of(counts) == stratum


@given(pixels)
def test_the_stratum_says_exactly_which_lesions_a_slice_holds(counts):
    stratum = stratum_of(counts)

    assert stratum in STRATA
    assert ("tumor" in stratum) == (counts[2] > 0)
    assert ("cyst" in stratum) == (counts[3] > 0)
    assert (stratum == "background") == (not any(counts[1:]))


def test_the_roi_is_weighed_against_everything_else_and_a_lesion_against_the_rest_of_the_roi():
    voxels = (9_000, 600, 300, 100)

    assert negative_ratio(voxels, "roi") == 9.0
    assert negative_ratio(voxels, "tumor") == pytest.approx(700 / 300)
    assert negative_ratio(voxels, "cyst") == 9.0


@pytest.mark.parametrize("target", ["roi", "tumor", "cyst"])
def test_a_class_that_the_data_lack_weighs_nothing_more(target):
    assert negative_ratio((1000, 0, 0, 0), target) == 1.0


@given(pixels, st.sampled_from(["roi", "tumor", "cyst"]))
def test_the_ratio_is_a_finite_number_from_zero_up(counts, target):
    assert 0 <= negative_ratio(counts, target) < float("inf")
