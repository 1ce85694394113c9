import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kitsam.shards.storage import quantize, restore

EXPONENTS = st.lists(st.integers(-12, 12), min_size=1, max_size=4)


@settings(max_examples=50)
@given(EXPONENTS, st.integers(0, 100))
def test_an_int8_embedding_is_off_by_half_a_step_of_its_channel_at_most(exponents, seed):
    rng = np.random.default_rng(seed)
    embedding = rng.standard_normal((len(exponents), 5, 5)) * 2.0 ** np.array(exponents)[:, None, None]
    values, scales = quantize(embedding.astype(np.float16))
    again = restore(torch.from_numpy(values)[None], torch.from_numpy(scales)[None])[0].numpy()
    error = np.abs(again - embedding.astype(np.float16).astype(np.float32)).max(axis=(1, 2))
    assert values.dtype == np.int8 and (error <= scales * 0.5001).all()
    assert np.abs(values.astype(int)).max(axis=(1, 2)).tolist() == [127] * len(exponents)


def test_a_channel_of_zeros_stays_zero():
    values, scales = quantize(np.zeros((2, 3, 3), np.float16))
    assert not restore(torch.from_numpy(values)[None], torch.from_numpy(scales)[None]).any()


def test_float16_passes_through_untouched():
    stored = torch.randn(1, 2, 3, 3).half()
    assert restore(stored, None) is stored
