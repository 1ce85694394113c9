"""Boxes: x0 y0 x1 y1 in continuous pixel coordinates, where pixel `i` spans `i .. i + 1`; (P, 4) float32."""

import numpy as np


def enlarge(boxes: np.ndarray, margin: float) -> np.ndarray:
    """Move each side of boxes (P, 4) outward by `margin` times the box's length in that direction."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([boxes[:, :2] - margin * sizes, boxes[:, 2:] + margin * sizes], axis=1)


def jitter(boxes: np.ndarray, amount: float, moves: np.ndarray) -> np.ndarray:
    """Move each side of boxes (P, 4) in or out by `amount` times the box's length times its move (P, 4) of -1 to 1."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    return boxes + (amount * np.concatenate([sizes, sizes], axis=1) * moves).astype(np.float32)


def clip(boxes: np.ndarray, height: float | np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """Cut boxes (P, 4) to a slice of `height` x `width` pixels, or each to its own (P,)."""
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32).T)


def cells_inside(boxes: np.ndarray, grid: int, reach: float = 0.0) -> tuple[np.ndarray, list[int]]:
    """The cells that boxes (P, 4), in cells, touch: their numbers (M,) int64 of P * grid * grid; how many each box has.

    Box by box and row by row; a box touches one cell at least. `reach`: cells by which it reaches beyond its sides.
    """
    first = np.clip(np.floor(boxes[:, :2] - reach), 0, grid - 1).astype(np.int64)
    last = np.clip(np.ceil(boxes[:, 2:] + reach), first + 1, grid).astype(np.int64)
    numbers = [
        ((number * grid + np.arange(y0, y1))[:, None] * grid + np.arange(x0, x1)).ravel()
        for number, ((x0, y0), (x1, y1)) in enumerate(zip(first.tolist(), last.tolist()))
    ]
    return np.concatenate([np.zeros(0, np.int64), *numbers]), list(map(len, numbers))
