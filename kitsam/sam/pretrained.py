"""An encoder and the decoder of the same checkpoint, as they were trained together."""

from kitsam.sam.checkpoints import checkpoint_path, read_checkpoint
from kitsam.sam.config import EncoderConfig
from kitsam.sam.decoder import BoxDecoder, decoder_from
from kitsam.sam.encoder import Encoder, build_encoder


def read_pretrained(name: str) -> tuple[Encoder, BoxDecoder]:
    """On the CPU. Raises `KitsamError` where the cache lacks the checkpoint or it holds other weights."""
    encoder, record = build_encoder(EncoderConfig(name))
    path = checkpoint_path(name)
    return encoder, decoder_from(read_checkpoint(path), record.grid, record.input_size, str(path))
