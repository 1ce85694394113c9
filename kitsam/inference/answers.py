"""What the decoders answered for each voxel, kept for whoever wants more than labels.

These are probabilities as the decoders give them: before thresholds, before small parts are taken out. A decoder that
was not asked about a voxel says 0 there. Memory: two bytes a voxel and decoder.
"""

import numpy as np
from torch import Tensor

from kitsam.ct.body import BodyBox
from kitsam.decoding.ask import SliceBoxes
from kitsam.system.devices import to_host


class Answers:
    """The probabilities of a scan in the canonical frame."""

    def __init__(self, shape: tuple[int, int, int], body: BodyBox | None = None) -> None:
        """`shape`: of the whole scan; `body`: where the slices that the decoders see lie in it."""
        self.shape, self.body = shape, body
        self.by_name: dict[str, np.ndarray] = {}  # (S, H, W) float16

    def keep(self, name: str, first: int, probabilities: Tensor | np.ndarray, boxes: SliceBoxes | None = None) -> None:
        """(B, H, W) of slices from `first` on; of several answers the largest stays. A `Listener` of the cascade."""
        numbers = to_host(probabilities) if isinstance(probabilities, Tensor) else probabilities
        volume = self.by_name.setdefault(name, np.zeros(self.shape, np.float16))
        part = volume[first : first + len(numbers)]
        if self.body:
            part = part[:, self.body.rows, self.body.columns]
        np.maximum(part, numbers.astype(np.float16), out=part)
