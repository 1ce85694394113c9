"""Mirrored slices for `kitsam evaluate --flips`: a shard set holds none of its validation cases, whose scans are
therefore encoded again.

A slice is encoded when the cascade first asks for it, and kept while its case is labelled. Memory: the mirrored
scan and its embeddings. A case that several processes share has its slices encoded twice, for the ROI and for lesions.
"""

from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor

from kitsam.ct.body import BodyBox
from kitsam.ct.case import CaseFiles
from kitsam.ct.config import InputConfig
from kitsam.ct.views import View
from kitsam.ct.volume import read_image
from kitsam.evaluation.config import EvaluateConfig
from kitsam.evaluation.labelling import Embeddings
from kitsam.inference.cascade import EmbeddingSource
from kitsam.inference.prompted import LazyEmbeddings
from kitsam.inference.scan_embeddings import mirror, with_mirrored
from kitsam.inference.trained_encoder import trained_encoder
from kitsam.sam.encoder import EncoderRecord
from kitsam.sam.encoding import SliceEncoder
from kitsam.shards.manifest import Manifest, ShardEntry
from kitsam.system.records import as_record

SLICES_AT_ONCE = 4  # as `kitsam predict` encodes them


def mirrored_encoder(config: EvaluateConfig, manifest: Manifest, device: torch.device) -> SliceEncoder:
    """The encoder of the set, in its own number format. Raises as `trained_encoder` does."""
    record = as_record(manifest.encoder, EncoderRecord, config.shards)
    settings = as_record(manifest.input, InputConfig, config.shards)
    encoder = trained_encoder(record, config.encoder_checkpoint)
    return SliceEncoder(encoder, settings, manifest.embedding.get("precision") == "bf16", device, SLICES_AT_ONCE)


def flipped(
    stored: Embeddings,
    encode: SliceEncoder,
    files: Mapping[str, CaseFiles],
    body_of: Callable[[ShardEntry], BodyBox] | None,  # where the slices of the set are cut to it
) -> Embeddings:
    """The stored embeddings, with those of the mirrored slices."""

    def source(entry: ShardEntry) -> EmbeddingSource:
        return with_mirrored(stored(entry), _mirrored(encode, files[entry.case], body_of and body_of(entry)))

    return source


def _mirrored(encode: SliceEncoder, files: CaseFiles, body: BodyBox | None) -> EmbeddingSource:
    @cache
    def image() -> Tensor:
        voxels = read_image(files.imaging).voxels
        return torch.from_numpy(mirror(body.cut(voxels) if body else voxels)).to(encode.device)

    def encode_slices(slices: list[int]) -> Tensor:
        parts = [slices[first : first + SLICES_AT_ONCE] for first in range(0, len(slices), SLICES_AT_ONCE)]
        return torch.cat([encode(image(), part, [View()] * len(part)) for part in parts])

    embeddings = LazyEmbeddings(encode_slices)
    return lambda first, count: embeddings(list(range(first, first + count)))
