"""Pairs of small label maps with lesions of all shapes."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SPACING = (2.0, 1.0, 0.5)  # a voxel is a cubic mm


@st.composite
def label_maps(draw) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 7)))
    # Mostly background, so that there are components to tell apart.
    labels = st.sampled_from([0, 0, 0, 0, 1, 2, 2, 3])
    order = draw(st.sampled_from(["C", "F"]))
    return tuple(np.array(draw(hnp.arrays(np.uint8, shape, elements=labels)), order=order) for _ in range(2))
