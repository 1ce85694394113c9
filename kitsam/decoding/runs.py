"""A training run's folder, for those who use what it learned: the names of its files, and its best decoder.

`config.yaml` and `shard_set.json` say what was trained on what; `decoder.safetensors` is the best decoder so far.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

from kitsam.ct.labels import Target
from kitsam.decoding.ask import TargetDecoder
from kitsam.decoding.config import PromptConfig
from kitsam.sam.decoder import decoder_from
from kitsam.shards.manifest import Signature, check_signature
from kitsam.system.errors import OptionError
from kitsam.system.records import as_record, read_record
from kitsam.system.tensors import read_tensors

CONFIG, SHARD_SET, DECODER, METRICS = "config.yaml", "shard_set.json", "decoder.safetensors", "metrics.jsonl"


@dataclass(frozen=True)
class ShardSetRecord:
    """What a run keeps of the shard set that it trains on; the content of `shard_set.json`."""

    signature: Signature
    grid: int  # cells a side of an embedding


@dataclass(frozen=True)
class TrainedDecoder(TargetDecoder):
    """The best decoder of a run, and what must be known to use it."""

    signature: Signature
    path: Path


@dataclass(frozen=True)
class _RunConfig:
    """What must be known of a run's `config.yaml`."""

    target: Target
    prompt: PromptConfig


def load_run(run: Path, target: Target, option: str = "") -> TrainedDecoder:
    """Raises `OptionError` naming the option when `run` is no run of that target or has no decoder yet."""
    option = option or target
    if not (run / CONFIG).is_file() or not (run / SHARD_SET).is_file():
        raise OptionError(f"--{option}: no run in {run}: no {CONFIG}")
    config = as_record(yaml.safe_load((run / CONFIG).read_text(encoding="utf-8")), _RunConfig, run / CONFIG)
    if config.target != target:
        raise OptionError(f"--{option}: {run} is a run of the {config.target} decoder")
    path = run / DECODER
    if not path.is_file():
        raise OptionError(f"--{option}: {run} has no {DECODER} yet: the run was never validated")
    record = read_record(run / SHARD_SET, ShardSetRecord)
    decoder = decoder_from(read_tensors(path), record.grid, str(path)).eval()
    return TrainedDecoder(decoder, config.prompt, record.signature, path)


def load_runs(roi: Path, tumor: Path | None, cyst: Path | None) -> dict[Target, TrainedDecoder]:
    """The runs by target. Raises `ShardError` when they were trained on embeddings of different encoders or windows."""
    paths: dict[Target, Path | None] = {"roi": roi, "tumor": tumor, "cyst": cyst}
    runs = {target: load_run(path, target) for target, path in paths.items() if path}
    for run in runs.values():
        check_signature(runs["roi"].signature, run.signature, runs["roi"].path, run.path)
    return runs
