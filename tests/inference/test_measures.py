"""What is measured on a label map, against drawn balls and boxes whose measures are known."""

import nibabel as nib
import numpy as np
import pytest

from kitsam.ct.volume import canonical_affine, geometry_of
from kitsam.inference.measures import findings_of, largest_diameter, middle_column, volumes_of

SPACING = (3.0, 1.0, 1.5)  # mm between slices, rows, columns
SHAPE = (30, 80, 80)


def ball(center: tuple[float, float, float], radius: float) -> np.ndarray:
    """(S, H, W) bool; mm."""
    distances = sum(((index - c) * mm) ** 2 for index, c, mm in zip(np.indices(SHAPE), center, SPACING))
    return distances <= radius**2


@pytest.fixture
def label() -> np.ndarray:
    """A kidney on either side, with two tumors in the left one and a cyst at the other."""
    label = ball((15, 40, 20), 18).astype(np.uint8) | ball((15, 40, 60), 15)
    label[ball((12, 34, 62), 5)] = 2
    label[ball((18, 46, 60), 3.5)] = 2
    label[ball((15, 24, 20), 6)] = 3
    return label


@pytest.mark.parametrize("radius", [4.0, 10.0, 20.0])
def test_the_diameter_of_a_ball_is_twice_its_radius(radius):
    points = np.argwhere(ball((15, 40, 40), radius))
    assert largest_diameter(points, canonical_affine(SPACING)) == pytest.approx(2 * radius, abs=max(SPACING))


def test_the_diameter_is_the_longest_way_between_any_two_faces():
    points = np.argwhere(np.random.default_rng(0).random((6, 7, 8)) < 0.1)
    faces = [points + sign * np.eye(3)[axis] / 2 for axis in range(3) for sign in (1, -1)]
    ends = np.concatenate(faces) * SPACING
    expected = max(np.linalg.norm(ends - one, axis=1).max() for one in ends)
    assert largest_diameter(points, canonical_affine(SPACING)) == pytest.approx(expected)


def test_kidneys_and_lesions_have_volume_side_and_slices(label):
    geometry = geometry_of("scan", canonical_affine(SPACING), SHAPE, nib.Nifti1Header())
    kidneys, lesions = findings_of(label, geometry, 39.5)
    assert [(one.kind, one.number, one.side) for one in kidneys] == [("kidney", 1, "right"), ("kidney", 2, "left")]
    assert [(one.kind, one.number, one.side) for one in lesions] == [
        ("tumor", 1, "left"), ("tumor", 2, "left"), ("cyst", 1, "right"),
    ]  # fmt: skip
    volumes = volumes_of(label, geometry.voxel_ml)
    assert sum(one.volume_ml for one in kidneys) == pytest.approx(volumes["kidney"])
    assert sum(one.volume_ml for one in lesions) == pytest.approx(volumes["tumor"] + volumes["cyst"])
    slices = np.flatnonzero((label[:, :, :40] > 0).any(axis=(1, 2)))
    assert (kidneys[0].first_slice, kidneys[0].last_slice) == (slices[0], slices[-1])


def test_slices_are_those_of_the_file(label):
    """In a file that runs from feet to head they count from the other end."""
    upward = canonical_affine(SPACING)
    upward[2, 0] *= -1
    geometry = geometry_of("scan", upward, SHAPE, nib.Nifti1Header())
    label[:10] = 0
    kidneys, _ = findings_of(label, geometry, 39.5)
    assert kidneys[0].first_slice == SHAPE[0] - 1 - np.flatnonzero(label.any(axis=(1, 2)))[-1]


def test_the_middle_is_the_bodys_not_the_pictures():
    voxels, label = np.full((3, 20, 50), -1000.0, np.float32), np.zeros((3, 20, 50), np.uint8)
    voxels[:, 5:15, 20:41] = 0
    label[1, 10, 25] = 1
    assert middle_column(voxels, label) == 30


def test_of_nothing_there_is_nothing():
    geometry = geometry_of("scan", canonical_affine(SPACING), SHAPE, nib.Nifti1Header())
    empty = np.zeros(SHAPE, np.uint8)
    assert findings_of(empty, geometry, middle_column(np.zeros(SHAPE, np.float32), empty)) == ([], [])
