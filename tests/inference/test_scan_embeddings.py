"""What is kept of a scan's embeddings: all of it, or a byte a number where a scan is long."""

import numpy as np
import pytest
import torch

from kitsam.inference import scan_embeddings as module
from kitsam.inference.scan_embeddings import encode_scan

SLICES, GRID = 7, 2
EMBEDDINGS = torch.randn(SLICES, 256, GRID, GRID, generator=torch.Generator().manual_seed(0)).half()


class Encoder:
    """Stands for a `SliceEncoder`."""

    device = torch.device("cpu")

    def __call__(self, image, slices, views):
        assert len(image) == SLICES and len(views) == len(slices) <= 3
        return EMBEDDINGS[slices]


def encoded():
    return encode_scan(np.zeros((SLICES, 4, 4), np.float32), Encoder(), 3, lambda slices: None)


@pytest.mark.parametrize(("first", "count"), [(0, SLICES), (2, 3), (6, 1)])
def test_a_short_scans_embeddings_are_kept_as_they_are(first, count):
    assert torch.equal(encoded()(first, count), EMBEDDINGS[first : first + count])


def test_a_long_scans_embeddings_are_right_to_half_a_step_of_their_channel(monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", EMBEDDINGS.nbytes - 1)
    error = (encoded()(1, 5) - EMBEDDINGS[1:6].float()).abs()
    step = EMBEDDINGS[1:6].float().abs().amax((2, 3), keepdim=True) / 127
    assert error.any() and (error <= step / 2 * 1.01).all()
    monkeypatch.setattr(module, "MOST_BYTES", EMBEDDINGS.nbytes)
    assert torch.equal(encoded()(1, 5), EMBEDDINGS[1:6])
