import numpy as np

from kitsam.pictures.agreement import FALSE, FOUND, GRAYS, MISSED, agreement_picture


def test_found_missed_and_false_pixels_have_their_colors():
    labels = np.array([[0, 1, 2, 2]], np.uint8)
    picture = agreement_picture(labels, labels == 2, np.array([[False, True, True, False]]))
    assert [tuple(pixel) for pixel in picture[0]] == [(GRAYS[0],) * 3, FALSE, FOUND, MISSED]
