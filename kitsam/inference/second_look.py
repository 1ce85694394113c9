"""A second look at kidneys and lesions: whether there is one, and by whom.

A decoder that learned from a few dozen cases finds a kidney or a lesion and misses parts of it. MedSAM's decoder, which
learned the outlines of over a million structures, fills in what is missing where a box tells it what to outline:
measured in docs/ablations.md. It is the decoder of the encoder's own checkpoint, as it came.
"""

from dataclasses import replace

from kitsam.decoding.config import PromptConfig
from kitsam.decoding.ensemble import Ensemble
from kitsam.inference.config import CascadeConfig
from kitsam.sam.checkpoints import MEDSAM
from kitsam.sam.decoder import BoxDecoder

# Wider than a lesion decoder's: what was missed of a kidney lies outside what was found.
KIDNEY_PROMPT = PromptConfig(margin=0.2)
# Each part of a lesion has its own box, a little wider than the part.
LESION_PROMPT = PromptConfig(margin=0.05, merge=0, smallest=0)


def decide_second_look(config: CascadeConfig, encoder: str, has_decoder: bool) -> CascadeConfig:
    """With `second_look` said, for an encoder whose checkpoint has a decoder at hand or not."""
    if config.second_look is not None:
        return config
    return replace(config, second_look=has_decoder and encoder in MEDSAM)


def second_look_by(decoder: BoxDecoder) -> Ensemble:
    return Ensemble((decoder,), LESION_PROMPT)
