import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from kitsam.shards import masks
from kitsam.shards.masks import decode_mask, encode_mask
from kitsam.system.errors import ShardError

MASKS = arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20)), elements=st.integers(0, 3))


@given(MASKS)
def test_pillow_reads_what_is_written(mask):
    image = Image.open(io.BytesIO(encode_mask(mask)))
    image.verify()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_mask(mask)))), mask)
    assert image.mode == "L"


@given(MASKS)
def test_what_is_written_is_read_again_without_pillow(mask):
    png = encode_mask(mask)
    assert masks._decode_unfiltered(png, *mask.shape) is not None
    assert np.array_equal(decode_mask(png, "x"), mask)
    assert decode_mask(encode_mask(np.zeros_like(mask)), "x", empty=True).shape == mask.shape


@given(MASKS)
def test_what_others_write_is_read_as_well(mask):
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    assert np.array_equal(decode_mask(file.getvalue(), "x"), mask)


@pytest.mark.parametrize("cut", [5, 20, 50, -45])
def test_a_damaged_mask_is_refused_by_name(cut):
    png = encode_mask(np.eye(30, dtype=np.uint8))
    with pytest.raises(ShardError, match="train/x.tar: key: not a mask"):
        decode_mask(png[:cut], "train/x.tar: key")
