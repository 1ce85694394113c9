"""From a checkpoint of LiteMedSAM's or MobileSAM's architecture to a bundle: what must follow the encoder does."""

from dataclasses import replace

import pytest
import torch
from sam.plain_tiny_vit import random_tiny_vit
from tiny import embed_config, train_config

from kitsam.decoding.runs import load_run
from kitsam.embedding import run as embedding
from kitsam.inference import bundle
from kitsam.inference.config import BundleConfig
from kitsam.sam.checkpoints import CHECKPOINTS, Origin
from kitsam.sam.config import EncoderConfig
from kitsam.sam.decoder import random_decoder
from kitsam.shards.manifest import read_manifest
from kitsam.system.files import sha256_of
from kitsam.system.tensors import read_tensors
from kitsam.training import loop

GRID = 4


@pytest.mark.parametrize(("name", "kernel", "stride", "size"), [("lite_medsam", 1, 1, 16), ("mobile_sam", 3, 2, 64)])
def test_sets_decoders_and_bundles_know_the_input(name, kernel, stride, size, data, tmp_path, monkeypatch):
    network = random_tiny_vit(kernel, stride)
    decoder = random_decoder(GRID, size, 1)
    state = {f"image_encoder.{key}": value for key, value in network.state_dict().items()} | decoder.state_dict()
    checkpoint = tmp_path / "x.pth"
    torch.save(state, checkpoint)
    known = replace(CHECKPOINTS[name], sha256=sha256_of(checkpoint), origin=Origin("somebody's page", "Apache-2.0"))
    monkeypatch.setitem(CHECKPOINTS, name, known)
    shards, run, out = tmp_path / "shards", tmp_path / "roi", tmp_path / "b.safetensors"

    assert embedding.run(embed_config(data, shards, encoder=EncoderConfig(name, checkpoint, size))) == 0
    manifest = read_manifest(shards)
    assert (manifest.grid, manifest.input_size) == (GRID, size)
    assert manifest.weights == {"source": "somebody's page", "license": "Apache-2.0"}

    # The encoder's own decoder is where training begins, and stays where it is without a rate.
    still = train_config("roi", shards, run, steps=1, init="checkpoint")
    still.optimizer.peak_rate = 0.0
    assert loop.run(still) == 0
    trained = load_run(run, "roi").decoder
    assert trained.prompt_encoder.input_image_size == (size, size)
    assert all(torch.equal(value, decoder.state_dict()[key]) for key, value in trained.state_dict().items())

    assert bundle.run(BundleConfig(run, out, encoder_checkpoint=checkpoint)) == 0
    loaded = bundle.read_bundle(out)
    assert loaded.decoders["roi"].decoders[0].input_size == loaded.encoder.input_size == size
    assert read_tensors(out).header["weights"]["license"] == "Apache-2.0"
    assert (loaded.second_look is not None) == (name == "lite_medsam")
    if loaded.second_look:
        state = loaded.second_look.decoders[0].state_dict()
        assert all(torch.equal(value, decoder.state_dict()[key]) for key, value in state.items())
    pixels = torch.rand(1, 3, size, size) * 255
    with torch.inference_mode():
        expected = network(normalized(pixels, loaded.encoder))
        assert torch.allclose(loaded.encoder(pixels), expected, atol=1e-4)


def normalized(pixels: torch.Tensor, encoder) -> torch.Tensor:
    if encoder.normalization == "slice":
        return (pixels - pixels.min()) / (pixels.max() - pixels.min())
    return (pixels - encoder.mean) / encoder.std
