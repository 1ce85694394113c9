"""The report's plots, from plain numbers."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from kitsam.pictures.plots import DARK, LIGHT, dice_by_case, dice_by_tumor_volume, light_and_dark, training_curve


def test_each_group_of_classes_has_a_line_from_its_worst_case_to_its_best():
    (axes,) = dice_by_case([0.9, 0.7], [0.2, 0.6], [0.5, 0.4], LIGHT).axes
    lines = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert lines == {"kidney and masses": [0.7, 0.9], "masses": [0.2, 0.6], "tumor": [0.4, 0.5]}


def test_a_case_without_a_tumor_stands_at_the_end_of_the_volume_axis():
    (axes,) = dice_by_tumor_volume([0.0, 250.0], [1.0, 0.5], LIGHT).axes
    (dots,) = axes.collections
    (least, most), points = axes.get_xlim(), dots.get_offsets()
    assert points[0].tolist() == [least, 1.0]
    assert points[1].tolist() == [250.0, 0.5] and most >= 250


@pytest.mark.parametrize("validated", [True, False])
def test_a_training_curve_marks_the_best_validation_where_there_is_one(validated):
    steps = np.arange(1.0, 51)
    validations = (np.array([20.0, 40.0]), np.array([0.8, 0.6])) if validated else (np.array([]), np.array([]))
    _, below = training_curve(steps, 1 / steps, *validations, LIGHT).axes
    marks = [line.get_xydata().tolist() for line in below.lines[1:]]
    assert marks == ([[[20.0, 0.8]]] if validated else [])


def test_a_plot_is_a_picture_for_light_pages_and_one_for_dark_pages():
    light, dark = light_and_dark(dice_by_tumor_volume, [3.0], [0.5])
    assert light != dark and LIGHT != DARK
    for png in (light, dark):
        with Image.open(BytesIO(png)) as picture:
            assert picture.format == "PNG" and picture.width > 600
