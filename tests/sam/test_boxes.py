import numpy as np

from kitsam.sam.boxes import cells_inside, clip, enlarge, jitter


def test_boxes_are_enlarged_by_a_share_of_their_sides_and_kept_on_the_slice():
    boxes = np.array([[10, 20, 30, 60]], np.float32)
    assert enlarge(boxes, 0.1).tolist() == [[8, 16, 32, 64]]
    assert clip(enlarge(boxes, 1.0), 70, 40).tolist() == [[0, 0, 40, 70]]


def test_jitter_moves_each_side_by_a_share_of_the_box():
    boxes = np.array([[100, 100, 200, 300], [0, 0, 10, 10]], np.float32)
    moves = np.array([[-1, 1, 0.5, 0], [0, 0, 1, -1]])
    assert jitter(boxes, 0.1, moves).tolist() == [[90, 120, 205, 300], [0, 0, 11, 9]]


def test_each_box_is_kept_on_its_own_slice():
    boxes = np.array([[-1, 2, 90, 80]] * 2, np.float32)
    assert clip(boxes, np.array([50, 60]), np.array([70, 40])).tolist() == [[0, 2, 70, 50], [0, 2, 40, 60]]


def test_the_cells_that_boxes_touch_are_numbered_box_by_box():
    boxes = np.array([[0.5, 1.0, 2.0, 2.5], [3.9, 3.9, 9, 9], [2, 2, 2, 2]], np.float32)
    numbers, counts = cells_inside(boxes, 4)
    assert counts == [4, 1, 1] and numbers.tolist() == [4, 5, 8, 9, 16 + 15, 32 + 10]
    assert cells_inside(boxes[:1], 4, 0.5)[0].tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    numbers, counts = cells_inside(boxes[:0], 4)
    assert counts == [] and numbers.shape == (0,)
