from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rounding import additions, assert_close_to_rounding, roundings

from kitsam.ct.case import find_cases, read_case
from kitsam.ct.config import InputConfig
from kitsam.ct.views import View, resize_pixels
from kitsam.ct.window import to_channels
from kitsam.embedding.config import EmbedConfig
from kitsam.sam.checkpoints import read_checkpoint
from kitsam.sam.config import EncoderConfig
from kitsam.sam.decoder import decoder_from
from kitsam.sam.encoder import build_encoder
from kitsam.sam.upstream import sam_model_registry
from kitsam.sam.vit import encode
from kitsam.system.command_line import read_command_line
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import sha256_of

FIRST_BLOCKS = 3  # of vit_b's 12, all of one code: two that attend in windows, one to the whole slice
REAL_SLICES = Path(__file__).parents[3] / "shared" / "data" / "kits_slices"


@pytest.fixture(scope="module")
def upstream():
    """Upstream's model, its positions random as in a trained one (they are zero in a new one)."""
    torch.manual_seed(0)
    sam = sam_model_registry["vit_b"]().eval()
    with torch.no_grad():
        for name, weight in sam.image_encoder.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                weight.normal_(0, 0.5)
    return sam


@pytest.fixture(scope="module")
def checkpoint(upstream, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "sam.pth"
    torch.save(upstream.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def image(data) -> np.ndarray:
    """(S, H, W) HU; a real slice where it is at hand."""
    folder = REAL_SLICES if REAL_SLICES.exists() else data
    return read_case(next(iter(find_cases(folder).values()))).image


@contextmanager
def first_blocks(vit):
    """The encoder with no more than these."""
    whole = vit.blocks
    vit.blocks = whole[:FIRST_BLOCKS]
    try:
        yield
    finally:
        vit.blocks = whole


def test_a_checkpoint_of_upstream_gives_upstreams_embedding_and_masks(upstream, checkpoint, image, device):
    upstream = upstream.to(device)
    encoder, record = build_encoder(EncoderConfig("vit_b", checkpoint))
    weights = encoder.vit.state_dict()
    assert all(torch.equal(weights.pop(name), w.cpu()) for name, w in upstream.image_encoder.state_dict().items())
    assert not weights
    channels = to_channels(torch.from_numpy(image).to(device), [0], InputConfig())
    pixels = resize_pixels(channels, [View()], 1024)
    box = torch.tensor([[300.0, 350.0, 700.0, 800.0]], device=device)
    cells = record.grid**2
    vit = upstream.image_encoder
    with torch.inference_mode(), first_blocks(encoder.vit), first_blocks(vit):
        ours = encoder.to(device)(pixels)
        theirs = vit(upstream.preprocess(pixels[0])[None])
        assert ours.shape == (1, 256, 64, 64)
        assert_close_to_rounding(ours, theirs, *roundings(vit, device, cells * len(vit.blocks)))
        decoder = decoder_from(read_checkpoint(checkpoint), record.grid, 1024, str(checkpoint)).eval().to(device)
        logits = decoder(theirs, torch.tensor([0], device=device), box / 16)
        sparse, dense = upstream.prompt_encoder(points=None, boxes=box, masks=None)
        expected, _ = upstream.mask_decoder(
            image_embeddings=theirs,
            image_pe=upstream.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
    assert_close_to_rounding(logits, expected[:, 0], *roundings(decoder.mask_decoder, device, cells))
    assert record.weights_sha256 == sha256_of(checkpoint) and record.name == "vit_b"


def test_medsam_takes_pixels_between_0_and_1(checkpoint, monkeypatch):
    medsam, _ = build_encoder(EncoderConfig("medsam", checkpoint))
    seen = []
    monkeypatch.setattr("kitsam.sam.encoder.encode", lambda vit, pixels, *how: seen.append(pixels))
    medsam(torch.tensor([0.0, 51.0, 255.0]).view(1, 3, 1, 1).expand(1, 3, 1024, 1024))
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx([0, 0.2, 1.0])


def test_a_checkpoint_of_another_encoder_is_refused_by_name(checkpoint):
    with pytest.raises(KitsamError, match="sam.pth: not the weights of vit_l"):
        build_encoder(EncoderConfig("vit_l", checkpoint))


def test_tiny_depends_on_its_seed_alone_and_takes_any_size_in_steps_of_16():
    first, record = build_encoder(EncoderConfig("tiny", input_size=48, seed=1))
    torch.rand(3)
    again, same = build_encoder(EncoderConfig("tiny", input_size=48, seed=1))
    other, different = build_encoder(EncoderConfig("tiny", input_size=48, seed=2))
    assert record == same and record.weights_sha256 != different.weights_sha256
    pixels = torch.rand(2, 3, 48, 48) * 255
    with torch.inference_mode():
        assert torch.equal(first(pixels), again(pixels)) and first(pixels).shape == (2, 256, 3, 3)
        assert (first(pixels) - other(pixels)).abs().max() > 0.1 * first(pixels).abs().max()


def test_a_slice_that_is_not_square_is_padded_below_and_to_the_right():
    encoder, _ = build_encoder(EncoderConfig("tiny", input_size=64))
    pixels = torch.rand(1, 3, 40, 64) * 255
    padded = torch.cat([pixels, encoder.mean.expand(1, 3, 24, 64)], dim=2)
    with torch.inference_mode():
        assert_close_to_rounding(encoder(pixels), encoder(padded), additions(encoder.vit, 4 * 4))


@pytest.mark.parametrize(("name", "size"), [("vit_b", 500), ("lite_medsam", 130), ("tiny", 100), ("tiny", 0)])
def test_an_input_size_the_encoder_cannot_take_is_refused(name, size):
    with pytest.raises(OptionError, match="--encoder.input_size"):
        build_encoder(EncoderConfig(name, input_size=size))


def test_other_input_sizes_interpolate_the_positions_of_the_checkpoint(upstream, checkpoint, device):
    encoder, record = build_encoder(EncoderConfig("vit_b", checkpoint, input_size=224))
    assert (record.input_size, record.grid) == (224, 14)
    vit = upstream.image_encoder.to(device)
    pixels = torch.randn(1, 3, 224, 224, device=device)
    with torch.inference_mode():
        # Upstream interpolates tables of relative positions by itself where they do not fit.
        cells = vit.patch_embed(pixels)
        positions = vit.pos_embed.permute(0, 3, 1, 2)
        cells = cells + F.interpolate(positions, (14, 14), mode="bilinear").permute(0, 2, 3, 1)
        for block in vit.blocks:
            cells = block(cells)
        theirs = vit.neck(cells.permute(0, 3, 1, 2))
        ours = encode(encoder.to(device).vit, pixels)
    assert_close_to_rounding(ours, theirs, *roundings(vit, device, 14**2 * len(vit.blocks)))


def test_a_name_on_the_command_line_brings_its_own_input_size():
    words = ["--data=d", "--out=s", "--encoder.name=lite_medsam"]
    assert read_command_line("embed", EmbedConfig, words).encoder.side == 256


def test_an_encoder_says_the_input_size_of_its_training():
    assert EncoderConfig("medsam").side == 1024 and EncoderConfig("lite_medsam").side == 256
