"""The encoder that decoders were trained with, and the decoder of the same checkpoint."""

from pathlib import Path

from kitsam.sam.checkpoints import CHECKPOINTS, checkpoint_path, read_checkpoint
from kitsam.sam.config import EncoderConfig
from kitsam.sam.decoder import BoxDecoder, decoder_from
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


def own_decoder(record: EncoderRecord, checkpoint: Path | None) -> BoxDecoder:
    """Of the encoder's checkpoint, on the CPU. Raises `OptionError` for an encoder that has none."""
    if record.name not in CHECKPOINTS:
        raise OptionError(f"--cascade.second_look: the encoder {record.name} has no checkpoint, and so no decoder")
    path = checkpoint_path(record.name, checkpoint)
    return decoder_from(read_checkpoint(path), record.grid, record.input_size, str(path))
