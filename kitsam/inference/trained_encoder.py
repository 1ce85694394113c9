"""The encoder that decoders were trained with, from its checkpoint."""

from pathlib import Path

from kitsam.sam.config import EncoderConfig
from kitsam.sam.encoder import Encoder, EncoderRecord, build_encoder
from kitsam.system.errors import OptionError


def trained_encoder(record: EncoderRecord, checkpoint: Path | None) -> Encoder:
    """On the CPU; `checkpoint`: None for what `kitsam weights` cached.

    Raises `OptionError` where its weights are not those that the decoders were trained with.
    """
    seed = {} if record.seed is None else {"seed": record.seed}
    encoder, actual = build_encoder(EncoderConfig(record.name, checkpoint, record.input_size, **seed))
    if actual != record:
        raise OptionError(
            f"--encoder_checkpoint: the decoders were trained with weights {record.weights_sha256[:12]}..., "
            f"these are {actual.weights_sha256[:12]}..."
        )
    return encoder
