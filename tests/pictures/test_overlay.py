"""CT slices with the outlines of truth and prediction."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from kitsam.pictures.overlay import (
    DOTS_PER_INCH,
    OUTLINES,
    PANEL_INCHES,
    Panel,
    case_overlay,
    choose_panels,
    draw_overlay,
)

SPACING = (4.0, 1.5, 1.5)
COLORS = {name: tuple(int(color[at : at + 2], 16) for at in (1, 3, 5)) for _, name, color in OUTLINES}


def pixels_near(picture: Image.Image, color: tuple[int, int, int]) -> int:
    distance = np.abs(np.asarray(picture.convert("RGB")).astype(int) - color).max(axis=-1)
    return int((distance < 25).sum())


@pytest.fixture
def draw():
    """One panel without captions, as pixels."""

    def render(labels, truth=None, spacing=(1.0, 1.0)) -> Image.Image:
        buffer = BytesIO()
        draw_overlay(buffer, [Panel(np.zeros(labels.shape), labels, truth, "")], spacing)
        return Image.open(buffer)

    return render


def test_a_panel_has_the_proportions_of_the_patient(draw):
    side = round(PANEL_INCHES * DOTS_PER_INCH)
    assert draw(np.zeros((100, 100), np.uint8)).size == (side, side)
    assert draw(np.zeros((100, 50), np.uint8)).size == (side // 2, side)
    assert draw(np.zeros((100, 50), np.uint8), spacing=(0.5, 2.0)).size == (side, side // 2)


@pytest.mark.parametrize(
    ("label", "drawn"), [(0, set()), (1, {"kidney with masses"}), (2, {"kidney with masses", "tumor"})]
)
def test_only_what_is_labeled_is_outlined(draw, label, drawn):
    # The outline of the kidney with its masses runs under that of a tumor where they coincide: here it does not.
    labels = np.zeros((60, 60), np.uint8)
    labels[10:50, 10:50] = min(label, 1)
    labels[25:35, 25:35] = label
    picture = draw(labels)
    assert {name for name, color in COLORS.items() if pixels_near(picture, color) > 20} == drawn


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 1.0), (2.0, 1.0)])
def test_an_outline_follows_the_border_of_its_mask(draw, spacing):
    labels = np.zeros((60, 60), np.uint8)
    labels[20:40, 15:45] = 1
    picture = np.asarray(draw(labels, spacing=spacing).convert("RGB")).astype(int)
    rows, columns = np.nonzero(np.abs(picture - COLORS["kidney with masses"]).max(axis=-1) < 25)
    height, width = picture.shape[:2]
    np.testing.assert_allclose(np.array([rows.min(), rows.max() + 1]) * 60 / height, [20, 40], atol=0.9)
    np.testing.assert_allclose(np.array([columns.min(), columns.max() + 1]) * 60 / width, [15, 45], atol=0.9)


def test_truth_is_solid_and_prediction_dashed(draw):
    nothing, labels = np.zeros((2, 60, 60), np.uint8)
    labels[10:50, 10:50] = 1
    color = COLORS["kidney with masses"]
    truth, prediction = pixels_near(draw(nothing, truth=labels), color), pixels_near(draw(labels, truth=nothing), color)
    assert 0.3 * truth < prediction < 0.8 * truth


def test_the_slices_with_most_tumor_cyst_and_kidney_are_chosen(image, labels):
    panels = choose_panels(image, labels, None, SPACING)
    shown = {panel.caption.split(": ")[1]: int(panel.caption.split()[1]) - 1 for panel in panels}
    assert shown["most tumor"] == (labels == 2).sum(axis=(1, 2)).argmax()
    assert shown["most cyst"] == (labels == 3).sum(axis=(1, 2)).argmax()
    assert shown["most kidney"] == (labels > 0).sum(axis=(1, 2)).argmax()
    assert len(panels) <= 4 and len({panel.image.shape for panel in panels}) == 1
    assert all(panel.prediction.any() for panel in panels)


def test_a_tumor_that_only_the_prediction_has_is_shown(image, labels):
    truth = np.where(labels == 2, 1, labels)
    captions = [panel.caption for panel in choose_panels(image, labels, truth, SPACING)]
    assert any("most tumor predicted" in caption for caption in captions)


def test_a_scan_without_findings_still_gives_a_picture(image, labels, tmp_path):
    case_overlay(tmp_path / "out" / "scan.png", image, np.zeros_like(labels), None, SPACING, "scan $1_2$")
    with Image.open(tmp_path / "out" / "scan.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 300
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scan.png"]


def test_the_case_overlay_shows_every_class_with_and_without_truth(image, labels, tmp_path):
    for truth in (labels, None):
        case_overlay(tmp_path / "case.png", image, np.roll(labels, 2, 1), truth, SPACING, "case_00000")
        with Image.open(tmp_path / "case.png") as picture:
            assert all(pixels_near(picture, color) > 100 for color in COLORS.values())
            # Wide enough for the panels side by side.
            assert picture.width > 2 * picture.height
