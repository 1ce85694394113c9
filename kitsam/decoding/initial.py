"""The decoder of the encoder's own checkpoint, which `kitsam embed` puts beside the manifest."""

from pathlib import Path

from kitsam.sam.decoder import BoxDecoder, decoder_from
from kitsam.shards.manifest import INITIAL_DECODER
from kitsam.shards.reader import ShardSet
from kitsam.system.errors import ShardError
from kitsam.system.files import sha256_of
from kitsam.system.tensors import read_tensors


def read_initial_decoder(shards: ShardSet, place: str | Path) -> BoxDecoder | None:
    """None for a set whose encoder has no checkpoint; `place`: where the set is.

    Raises `ShardError` where it is missing or its bytes have changed.
    """
    manifest = shards.manifest
    expected = manifest.initial_decoder
    with shards.source.small_file(INITIAL_DECODER) as path:
        if expected and (path is None or sha256_of(path) != expected):
            raise ShardError(f"{place}: {INITIAL_DECODER} is missing, or its bytes have changed")
        if path is None:
            return None
        tensors = read_tensors(path).tensors
        return decoder_from(tensors, manifest.grid, manifest.input_size, f"{place}/{INITIAL_DECODER}")
