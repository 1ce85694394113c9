"""A training run's folder, for those who use what it learned: the names of its files, and its best decoder.

`decoder.safetensors` is the best decoder so far; its header says all that must be known to use it: target, prompts,
and the shard set with the scans that it was trained on and validated on. These are known by their content, so that a
decoder is never asked about a scan that it was trained on, whatever the scan is called.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from kitsam.ct.labels import Target
from kitsam.decoding.ask import TargetDecoder
from kitsam.decoding.config import PromptConfig
from kitsam.decoding.detail import DetailNet, DetailNets
from kitsam.decoding.records import CONFIG, DECODER, SHARD_SET, DecoderRecord, ShardSetRecord
from kitsam.sam.decoder import BoxDecoder, decoder_from
from kitsam.shards.manifest import Manifest, Signature, check_signature
from kitsam.shards.reader import ShardSet
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import read_yaml
from kitsam.system.records import as_record
from kitsam.system.seals import read_sealed
from kitsam.system.tensors import read_tensors, write_tensors

DETAIL = "detail"  # begins the names of the networks' tensors in a decoder's file


@dataclass(frozen=True)
class TrainedDecoder(TargetDecoder):
    """The best decoder of a run, and what must be known to use it."""

    shard_set: ShardSetRecord
    path: Path

    @property
    def signature(self) -> Signature:
        return self.shard_set.signature


@dataclass(frozen=True)
class _RunConfig:
    """What must be known of a run's `config.yaml`, where its decoder has no header."""

    target: Target
    prompt: PromptConfig


def record_of(shards: ShardSet, start: TrainedDecoder | None = None) -> ShardSetRecord:
    """What a run on `shards` keeps of them; `start`: the decoder that gives the first weights."""
    manifest = shards.manifest
    seen = start.shard_set.train if start else {}
    train = {**seen, **manifest.scans(manifest.split.train)}
    val = manifest.scans(manifest.split.val)
    return ShardSetRecord(manifest.signature, manifest.grid, shards.fingerprint, shards.fold, train, val)


def write_decoder(run: Path, decoder: BoxDecoder, record: DecoderRecord, detail: DetailNets | None = None) -> None:
    write_tensors(run / DECODER, tensors_of(decoder, detail), asdict(record))


def tensors_of(decoder: BoxDecoder, detail: DetailNets | None) -> dict[str, Tensor]:
    """Of both, by the names that they have in a run's file and after a prefix in a bundle."""
    own = detail.state_dict() if detail else {}
    return {**decoder.state_dict(), **{f"{DETAIL}.{name}": tensor for name, tensor in own.items()}}


def detail_from(tensors: Mapping[str, Tensor], source: str) -> DetailNets | None:
    """Those among a decoder's tensors, if there are some.

    Raises `KitsamError` naming `source` where they do not fit.
    """
    own = {key.removeprefix(f"{DETAIL}."): tensor for key, tensor in tensors.items() if key.startswith(f"{DETAIL}.")}
    if not own:
        return None
    detail = DetailNets(DetailNet() for _ in {name.split(".")[0] for name in own})
    try:
        detail.load_state_dict(own)
    except RuntimeError as error:
        raise KitsamError(f"{source}: not the weights of networks for detail") from error
    return detail.eval()


def load_run(run: Path, target: Target | None, option: str = "") -> TrainedDecoder:
    """`target`: None for a run of any.

    Raises `OptionError` naming the option when `run` is no run of that target or has no decoder yet.
    """
    option = option or str(target)
    if not (run / CONFIG).is_file() or not (run / SHARD_SET).is_file():
        raise OptionError(f"--{option}: no run in {run}: no {CONFIG if not (run / CONFIG).is_file() else SHARD_SET}")
    path = run / DECODER
    if not path.is_file():
        _check_target(as_record(read_yaml(run / CONFIG), _RunConfig, run / CONFIG).target, target, run, option)
        raise OptionError(f"--{option}: {run} has no {DECODER} yet: the run was never validated")
    file = read_tensors(path)
    if file.header is not None:
        record = as_record(file.header, DecoderRecord, path)
    else:
        config = as_record(read_yaml(run / CONFIG), _RunConfig, run / CONFIG)
        record = DecoderRecord(config.target, config.prompt, read_sealed(run / SHARD_SET, ShardSetRecord))
    _check_target(record.target, target, run, option)
    shard_set = record.shard_set
    decoder = decoder_from(file.tensors, shard_set.grid, shard_set.signature.input_size, str(path)).eval()
    decoder.sight = record.prompt.sight
    return TrainedDecoder(decoder, record.prompt, shard_set, path, detail=detail_from(file.tensors, str(path)))


def _check_target(actual: Target, expected: Target | None, run: Path, option: str) -> None:
    if expected not in (None, actual):
        raise OptionError(f"--{option}: {run} is a run of the {actual} decoder")


def load_runs(paths: Mapping[Target, Sequence[Path]]) -> dict[Target, list[TrainedDecoder]]:
    """The runs by target, of the ROI one at least.

    Raises `OptionError` when they were trained on embeddings of different encoders or windows, or on different splits
    and are not folds of one, and when those of one target were asked with different boxes.
    """
    runs = {target: [load_run(path, target) for path in some] for target, some in paths.items()}
    first = runs["roi"][0]
    for target, run in each_run(runs):
        check_signature(first.signature, run.signature, first.path, run.path)
        _check_same_split(first.shard_set, run, first.path.parent, target)
        _check_same_boxes(runs[target][0], run, target)
    return runs


def each_run(runs: Mapping[Target, Sequence[TrainedDecoder]]) -> Iterator[tuple[Target, TrainedDecoder]]:
    for target, some in runs.items():
        for run in some:
            yield target, run


def _check_same_boxes(first: TrainedDecoder, run: TrainedDecoder, option: str) -> None:
    ours, theirs = asdict(first.prompt), asdict(run.prompt)
    for name in ours:
        # In training alone boxes jitter.
        if name != "jitter" and ours[name] != theirs[name]:
            raise OptionError(
                f"--{option}: {run.path.parent} was trained with prompt.{name} {theirs[name]}, "
                f"but {first.path.parent} with {ours[name]}"
            )


def _check_same_split(roi: ShardSetRecord, run: TrainedDecoder, roi_path: Path, option: str) -> None:
    other = run.shard_set
    if None in (roi.fingerprint, other.fingerprint) or roi.fingerprint == other.fingerprint:
        return
    strangers = {*roi.val.items()} ^ {*other.val.items()} or {*roi.train.items()} ^ {*other.train.items()}
    if strangers:
        name = min(strangers)[0]
        raise OptionError(
            f"--{option}: {run.path.parent} was trained on another split than {roi_path}: {name} is not alike"
        )


def check_leak(run: TrainedDecoder, manifest: Manifest, option: str, shards: str | Path) -> None:
    """Raises `OptionError` naming a validation case of `shards` that the decoder was trained on."""
    train = run.shard_set.train
    leaks = [name for name, scan in manifest.scans(manifest.split.val).items() if _has_seen(train, name, scan)]
    if leaks:
        raise OptionError(f"--{option}: {run.path.parent} was trained on {leaks[0]}, which validates in {shards}")


def _has_seen(train: Mapping[str, str], name: str, scan: str) -> bool:
    # A set of format 1 knows scans by name only.
    by_name = name in train and name in (scan, train[name])
    return by_name or scan in train.values()
