"""Validation slices as pictures: their colors, and that TensorBoard gets them."""

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kitsam.training.pictures import FALSE, FOUND, GRAYS, MISSED, overlay


def test_found_missed_and_false_pixels_have_their_colors():
    labels = np.array([[0, 1, 2, 2]], np.uint8)
    picture = overlay(labels, labels == 2, np.array([[False, True, True, False]]))
    assert [tuple(pixel) for pixel in picture[0]] == [(GRAYS[0],) * 3, FALSE, FOUND, MISSED]


def test_a_run_shows_the_same_slices_at_each_validation(runs):
    for target, run in runs.items():
        (events,) = {path.parent for path in run.glob("**/events.out.tfevents.*")}
        shown = EventAccumulator(str(events), {"images": 0}).Reload()
        names = shown.Tags()["images"]
        assert len(names) == 1 and names[0].startswith("case_")
        images = shown.Images(names[0])
        assert [image.step for image in images] == [3, 6], target
        assert (images[0].width, images[0].height) == (64, 64)
