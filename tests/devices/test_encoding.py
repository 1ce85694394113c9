import pytest
import torch
from meta_device import META, meta_device

from kitsam.ct.config import InputConfig
from kitsam.ct.views import View
from kitsam.sam.encoder import Encoder
from kitsam.sam.encoding import SliceEncoder

VIEWS = [View(), View(rotation=10.0, scale=1.1, contrast=0.9, brightness=0.1), View(rotation=-5.0)]


@pytest.fixture
def image():
    return torch.zeros(5, 64, 48, device=META)


@pytest.mark.parametrize("channels", ["gray", "adjacent", "windows"])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_encoding_slices_waits_for_nothing(channels, bfloat16, image):
    encode = SliceEncoder(Encoder("tiny", 320), InputConfig(channels=channels), bfloat16, META, batch_size=4)
    with meta_device():
        embeddings = encode(image, [0, 2, 4], VIEWS)
        assert encode.blank_batch().shape == (4, 256, 20, 20)
    assert embeddings.shape == (3, 256, 20, 20) and embeddings.dtype == torch.float16 and embeddings.device == META


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("channels", ["gray", "adjacent", "windows"])
def test_a_gpu_is_never_waited_for_while_slices_are_encoded(channels):
    device = torch.device("cuda")
    encode = SliceEncoder(Encoder("tiny", 320), InputConfig(channels=channels), True, device, batch_size=4)
    scan = torch.zeros(5, 64, 48, device=device)
    expected = encode(scan, [0, 2, 4], VIEWS)  # the first time, torch looks for the fastest kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        embeddings = encode(scan, [0, 2, 4], VIEWS)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(embeddings, expected)


def test_where_nothing_may_be_compiled_nothing_is(image, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("compiled")

    monkeypatch.setattr(torch, "compile", refuse)
    encode = SliceEncoder(Encoder("tiny", 320), InputConfig(), False, META, batch_size=4)
    encode.device = torch.device("cuda")  # as far as the choice goes
    encode.choose_attention("no")
    encode.device = META
    with meta_device():
        # Nothing holds for one batch size, so nothing is filled up.
        assert encode(image, [0], [View()]).shape == (1, 256, 20, 20)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_a_batch_is_filled_up_for_a_kernel(image, monkeypatch):
    sizes = []
    encode = SliceEncoder(Encoder("tiny", 320), InputConfig(), False, META, batch_size=4)
    monkeypatch.setattr(encode.encoder, "forward", lambda pixels: sizes.append(len(pixels)) or pixels)
    with meta_device():
        for encode.encoder.uses_kernel in (False, True):
            encode(image, [0, 1], [View()] * 2)
    assert sizes == [2, 4]
