"""Surface Dice against the package that defines it."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area

from kitsam.evaluation import slabs
from kitsam.evaluation import surface_dice as module
from kitsam.evaluation.surface_dice import surface_dice
from kitsam.evaluation.surface_table import surface_areas

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")

SPACINGS = st.tuples(*[st.floats(0.3, 8.0)] * 3)


@st.composite
def pairs(draw) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float], float]:
    """Two masks up to all borders of a small volume, any spacing, a tolerance from 0 to 5 voxels."""
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    truth, prediction = (draw(hnp.arrays(bool, shape)) for _ in range(2))
    spacing = draw(SPACINGS)
    # Twice a spacing at most is met exactly: beyond, other offsets of equal length may be rounded to either side.
    exact = st.builds(lambda axis, steps: spacing[axis] * steps, st.integers(0, 2), st.integers(0, 2))
    return truth, prediction, spacing, draw(exact | st.floats(0, 5).map(lambda voxels: voxels * max(spacing)))


VOXEL = np.ones((1, 1, 1), bool)
CORNERS = np.zeros((5, 5, 5), bool)
CORNERS[0, 0, 0] = CORNERS[-1, -1, -1] = True


@pytest.mark.parametrize(
    "lookups", [module.LOOKUPS_PER_TRANSFORMED_VOXEL, 0, float("inf")], ids=["auto", "distance", "lookup"]
)
@pytest.mark.parametrize("slab_bytes", [slabs.SLAB_BYTES, 0], ids=["one slab", "slabs of a plane"])
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(pair=(VOXEL, VOXEL, (1.0, 1.0, 1.0), 0.0))
@example(pair=(CORNERS, CORNERS[::-1], (5.0, 0.78, 0.78), 3.9))
@example(pair=(np.ones((3, 4, 5), bool), CORNERS[:3, :4, :5], (0.5, 0.6, 0.6), 1.0330772532390826))
@given(pair=pairs())
def test_equals_the_reference_for_any_masks_spacing_and_tolerance(
    lookups, slab_bytes, pair, official_surface_dice, monkeypatch
):
    truth, prediction, spacing, tolerance = pair
    assume(truth.any() and prediction.any())
    monkeypatch.setattr(module, "LOOKUPS_PER_TRANSFORMED_VOXEL", lookups)
    monkeypatch.setattr(slabs, "SLAB_BYTES", slab_bytes)
    monkeypatch.setattr(slabs, "PLANES_PER_MARGIN", 0 if slab_bytes == 0 else slabs.PLANES_PER_MARGIN)

    found = surface_dice(truth, prediction, spacing, tolerance)

    assert found == pytest.approx(official_surface_dice(truth, prediction, spacing, tolerance), abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(spacing=SPACINGS)
def test_areas_of_all_neighborhoods_equal_the_reference(spacing):
    np.testing.assert_allclose(surface_areas(spacing), create_table_neighbour_code_to_surface_area(spacing), rtol=1e-12)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_in_memory_does_not_matter(order, anatomy, official_surface_dice):
    truth = np.array(anatomy > 0, order=order)
    prediction = np.array(np.roll(anatomy, 2, 1) > 0, order=order)
    expected = official_surface_dice(anatomy > 0, np.roll(anatomy, 2, 1) > 0, (3.0, 0.8, 0.7), 1.1)
    assert surface_dice(truth, prediction, (3.0, 0.8, 0.7), 1.1) == pytest.approx(expected, abs=1e-6)


def test_surfaces_one_step_apart_agree_from_exactly_that_tolerance_on():
    truth, prediction = np.zeros((2, 9, 9, 9), bool)
    truth[2:6, 2:6, 2:6] = True
    prediction[3:7, 2:6, 2:6] = True
    spacing = (0.7, 50.0, 50.0)
    assert surface_dice(truth, prediction, spacing, 0.7) == 1.0
    assert surface_dice(truth, prediction, spacing, np.nextafter(0.7, 0)) < 1.0


def test_a_voxel_has_the_surface_of_eight_cut_corners():
    codes = [1 << bit for bit in range(8)]
    # The midpoints of three edges at a right angle, each half a mm away: sqrt(3) / 8 mm2.
    np.testing.assert_allclose(surface_areas((1.0, 1.0, 1.0))[codes], np.sqrt(3) / 8)
    assert surface_areas((1.0, 1.0, 1.0))[[0, 255]].tolist() == [0, 0]


@pytest.mark.parametrize(("true", "predicted", "expected"), [(0, 0, 1.0), (1, 0, 0.0), (0, 1, 0.0)])
def test_empty_masks_follow_the_official_rule(true, predicted, expected):
    masks = [np.full((3, 4, 5), bool(value)) for value in (true, predicted)]
    assert surface_dice(*masks, (1.0, 1.0, 1.0), 1.0) == expected
