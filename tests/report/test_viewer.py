"""The pictures of a case: what a page holds for them."""

import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw
from two_kidneys import SPACING

from kitsam.ct.case import Case
from kitsam.ct.volume import Geometry
from kitsam.report.viewer import STORED, WINDOWS, Detail, outline_path, view, window_filter

MANY = Detail(60, 40)


def filled(path: str, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the pixels whose centers a path of half pixels goes around."""
    canvas = Image.new("1", (4 * shape[1], 4 * shape[0]))
    inside = np.zeros(shape, bool)
    for x, y, moves in re.findall(r"M(-?\d+) (-?\d+)l([-\d ]+)z", path):
        steps = np.array(moves.split(), int).reshape(-1, 2)
        points = np.cumsum(np.concatenate([[[int(x), int(y)]], steps]), axis=0)
        part = canvas.copy()
        ImageDraw.Draw(part).polygon([tuple(point) for point in (2 * points).tolist()], fill=1)
        inside ^= np.asarray(part)[2::4, 2::4]
    return inside


def case_of(image: np.ndarray, labels: np.ndarray, spacing=SPACING) -> Case:
    affine = np.diag([*(-np.array(spacing)), 1])
    geometry = Geometry(affine, None, np.array([[0, 1], [1, 1], [2, 1]]), labels.shape)
    return Case("case_00000", image, labels, spacing, geometry)


def test_a_path_goes_around_exactly_what_is_inside():
    y, x = np.indices((30, 40))
    mask = ((y - 12) ** 2 + (x - 15) ** 2 < 90) & ~((y - 12) ** 2 + (x - 15) ** 2 < 20)
    mask |= (x > 33) & (y < 9)  # up to two edges of the picture
    mask[25:29, 3:12] = True
    np.testing.assert_array_equal(filled(outline_path(mask), mask.shape), mask)
    assert outline_path(np.zeros((4, 4), bool)) == ""


def test_all_slices_that_hold_something_can_be_seen_and_of_many_an_even_choice(labels, image):
    def frames(repeats: int) -> int:
        tall, seen = np.repeat(labels, repeats, axis=0), np.repeat(image, repeats, axis=0)
        return len(view(case_of(seen, tall), np.roll(tall, repeats, axis=0), MANY).planes["axial"].frames)

    filled_slices = np.flatnonzero(labels.any(axis=(1, 2)))
    assert frames(1) == filled_slices[-1] - filled_slices[0] + 2
    # Beside the even choice those chosen for what they show, and those of lesions.
    assert MANY.axial <= frames(20) <= MANY.axial + 8


@pytest.mark.parametrize(("plane", "axis"), [("axial", 0), ("coronal", 1), ("sagittal", 2)])
def test_outlines_of_a_plane_are_those_of_the_labels_on_its_slices(labels, image, plane, axis):
    shown = view(case_of(image, labels), None, MANY).planes[plane]
    filled_places = [np.flatnonzero(labels.any(axis=tuple({0, 1, 2} - {one}))) for one in range(3)]
    for frame in shown.frames[::5]:
        whole = np.take(labels > 0, frame.at, axis)
        inside = filled(frame.paths["truth"][0], shown.size)
        assert inside.sum() == whole.sum()
        if whole.any():
            rows, columns = np.nonzero(inside)
            tall, wide = np.nonzero(whole)
            np.testing.assert_array_equal(rows - rows.min(), tall - tall.min())
            np.testing.assert_array_equal(columns - columns.min(), wide - wide.min())
    assert {frame.at for frame in shown.frames} <= {*range(filled_places[axis][0], filled_places[axis][-1] + 1)}


def test_pictures_have_the_proportions_of_the_patient_and_the_size_that_the_scale_needs(labels, image):
    for plane in view(case_of(image, labels), None, MANY).planes.values():
        height, width = plane.millimeters
        with Image.open(BytesIO(plane.frames[0].jpeg)) as picture:
            assert picture.width / picture.height == pytest.approx(width / height, rel=0.05)


def test_each_lesion_has_its_own_slice_in_every_plane(labels, image):
    viewer = view(case_of(np.repeat(image, 20, 0), np.repeat(labels, 20, 0)), None, Detail(3, 3))
    assert len(viewer.lesions) == 2
    for lesion in viewer.lesions:
        for axis, plane in enumerate(viewer.planes.values()):
            assert lesion.at[axis] in [frame.at for frame in plane.frames]


def test_a_scan_of_a_few_slices_has_no_planes_across(labels, image):
    assert set(view(case_of(image[:5], labels[:5]), None, MANY).planes) == {"axial"}
    assert set(view(case_of(image, labels), None, Detail(5, 0)).planes) == {"axial"}


def test_a_case_without_labels_shows_its_middle(image):
    viewer = view(case_of(image, np.zeros(image.shape, np.uint8)), None, MANY)
    plane = viewer.planes["axial"]
    assert plane.frames[plane.first].at == len(image) // 2 and not viewer.lesions


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_the_filter_of_a_window_shows_its_hu_from_black_to_white(window):
    contrast, brightness = map(
        float, re.fullmatch(r"contrast\(([\d.]+)\) brightness\(([\d.]+)\)", window_filter(window)).groups()
    )

    def shown(hu: float) -> float:
        gray = (hu - STORED[0]) / (STORED[1] - STORED[0])
        # As CSS says it (Filter Effects, 12); each function's result is clamped.
        after = np.clip(gray * contrast + 0.5 - 0.5 * contrast, 0, 1)
        return float(np.clip(after * brightness, 0, 1))

    low, high = window
    for hu in np.linspace(low, high, 9):
        assert shown(hu) == pytest.approx((hu - low) / (high - low), abs=0.002)
    assert shown(low - 50) == pytest.approx(0, abs=0.002) and shown(high + 50) == pytest.approx(1, abs=0.002)


def test_a_stored_picture_holds_the_hu(labels):
    ramp = np.broadcast_to(np.linspace(*STORED, labels.shape[2]), labels.shape).astype(np.float32)
    frame = view(case_of(ramp, labels), None, MANY).planes["axial"].frames[0]
    gray = np.asarray(Image.open(BytesIO(frame.jpeg)), float)
    assert np.diff(gray[10]).mean() > 0 and gray.min() >= 0
