"""A slice of labels with what a decoder found on it, missed, and took for its target wrongly.

A shard set holds no CT, so that the ground is the labels themselves, in gray: kidney, tumor and cyst from dark to
light. On it pixels that were found are green, missed ones red, false ones blue.
"""

import numpy as np

GRAYS = np.array([16, 60, 110, 160], np.uint8)  # of background, kidney, tumor, cyst
FOUND, MISSED, FALSE = (70, 190, 90), (230, 70, 60), (80, 130, 255)


def agreement_picture(labels: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(H, W) labels, (H, W) bool truth and prediction -> (H, W, 3) uint8."""
    picture = np.repeat(GRAYS[labels][:, :, None], 3, axis=2)
    for color, where in ((FOUND, truth & predicted), (MISSED, truth & ~predicted), (FALSE, predicted & ~truth)):
        picture[where] = color
    return picture
