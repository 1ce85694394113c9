"""What a training run says of itself: the names of its files, and the records in them. Imports no torch.

A decoder's header says all that must be known to use it: target, prompts, and the shard set with the scans that it was
trained on and validated on, by their content.
"""

from dataclasses import dataclass, field

from kitsam.ct.labels import Target
from kitsam.decoding.config import PromptConfig
from kitsam.shards.manifest import Signature

CONFIG, SHARD_SET, DECODER, METRICS = "config.yaml", "shard_set.json", "decoder.safetensors", "metrics.jsonl"

Scans = dict[str, str]  # case -> SHA-256 of its scan, or its own name where the shard set does not know


@dataclass(frozen=True)
class ShardSetRecord:
    """What a run keeps of the shard set that it trains on; the content of `shard_set.json`."""

    signature: Signature
    grid: int  # cells a side of an embedding
    fingerprint: str | None = None  # runs of an older version know neither set nor scans
    fold: int | None = None
    train: Scans = field(default_factory=dict)  # what the decoder has seen, its first weights included
    val: Scans = field(default_factory=dict)


@dataclass(frozen=True)
class DecoderRecord:
    """What a decoder's header says of it."""

    target: Target
    prompt: PromptConfig
    shard_set: ShardSetRecord
