"""Whether lesions are looked at a second time, by the decoder of the encoder's own checkpoint."""

import pytest
from tiny import CASCADE, evaluate_config

from kitsam.evaluation import evaluate
from kitsam.inference import bundle
from kitsam.inference.bundle import read_bundle
from kitsam.inference.config import BundleConfig, CascadeConfig
from kitsam.inference.second_look import decide_second_look
from kitsam.system.errors import OptionError


@pytest.mark.parametrize(
    ("said", "encoder", "has_decoder", "expected"),
    [
        (None, "lite_medsam", True, True),
        (None, "medsam", True, True),
        (None, "lite_medsam", False, False),  # a set whose checkpoint had no decoder
        (None, "vit_b", True, False),  # which saw no CT
        (None, "tiny", False, False),
        (True, "vit_b", True, True),
        (False, "lite_medsam", True, False),
    ],
)
def test_medsams_decoder_looks_again_unless_something_else_is_said(said, encoder, has_decoder, expected):
    config = decide_second_look(CascadeConfig(second_look=said), encoder, has_decoder)
    assert config.second_look is expected


def test_an_encoder_without_a_checkpoint_cannot_look_again(data, shards, runs, tmp_path):
    cascade = CascadeConfig(**CASCADE, second_look=True)
    with pytest.raises(OptionError, match="--cascade.second_look: .* has no decoder of SAM"):
        evaluate.run(evaluate_config(data, shards, runs, tmp_path / "out", cascade=cascade))
    with pytest.raises(OptionError, match="--cascade.second_look: the encoder tiny has no checkpoint"):
        bundle.run(BundleConfig(runs["roi"], tmp_path / "model", runs["tumor"], cascade=cascade))
    assert not (tmp_path / "model").exists()


def test_a_bundle_without_a_second_look_says_so(model):
    assert read_bundle(model).second_look is None
