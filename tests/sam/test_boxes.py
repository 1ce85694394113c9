import numpy as np

from kitsam.sam.boxes import clip, enlarge, jitter


def test_boxes_are_enlarged_by_a_share_of_their_sides_and_kept_on_the_slice():
    boxes = np.array([[10, 20, 30, 60]], np.float32)
    assert enlarge(boxes, 0.1).tolist() == [[8, 16, 32, 64]]
    assert clip(enlarge(boxes, 1.0), 70, 40).tolist() == [[0, 0, 40, 70]]


def test_jitter_goes_in_and_out_within_bounds_and_is_seeded():
    boxes = np.tile(np.array([[100, 100, 200, 300]], np.float32), (500, 1))
    moved = jitter(boxes, 0.1, np.random.default_rng(0)) - boxes
    limit = [10, 20, 10, 20]
    assert (
        (np.abs(moved) <= limit).all()
        and (moved.min(0) < np.multiply(limit, -0.9)).all()
        and (moved.max(0) > np.multiply(limit, 0.9)).all()
    )
    assert np.array_equal(jitter(boxes, 0.1, np.random.default_rng(0)) - boxes, moved)
