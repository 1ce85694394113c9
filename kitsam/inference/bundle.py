"""One safetensors file with all that `kitsam predict` needs.

Tensors `encoder.*`, `roi.*`, `tumor.*`, `cyst.*`, and for a second look `checkpoint.*`, the decoder of the encoder's
own checkpoint; the header's `kitsam` entry is JSON: encoder, input settings, each decoder's prompts and the shard set
it was trained on, the cascade's settings, and a card for people (`card.py`).

Format 2 is written where a target has several runs, whose tensors are `roi.0.*`, `roi.1.*`, ... and whose shard sets
are a list, format 3 where there is a second look, format 4 where a decoder has networks for detail beside it
(`tumor.detail.*`): a version of kitsam that would leave some of it out refuses it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path

import torch

from kitsam import __version__
from kitsam.ct.config import InputConfig
from kitsam.ct.labels import Target
from kitsam.decoding.config import runs_of
from kitsam.decoding.ensemble import Ensemble
from kitsam.decoding.records import DECODER, ShardSetRecord
from kitsam.decoding.runs import TrainedDecoder, detail_from, each_run, load_runs, tensors_of
from kitsam.inference.card import ONE_RUN, SECOND_LOOK, SEVERAL_RUNS, WITH_DETAIL, Card, Header, as_header, line_of
from kitsam.inference.config import BundleConfig, CascadeConfig
from kitsam.inference.evaluations import METRICS, read_evaluations
from kitsam.inference.second_look import decide_second_look, second_look_by
from kitsam.inference.trained_encoder import own_decoder, trained_encoder
from kitsam.sam.checkpoints import CHECKPOINTS, origin_of
from kitsam.sam.decoder import decoder_from
from kitsam.sam.encoder import Encoder, EncoderRecord
from kitsam.system.console import say
from kitsam.system.errors import OptionError
from kitsam.system.options import as_list
from kitsam.system.outputs import files_in, refuse_overwriting
from kitsam.system.records import as_record
from kitsam.system.tensors import read_tensors, write_tensors

CHECKPOINT = "checkpoint"  # begins the names of its own decoder's tensors


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds, on the CPU."""

    encoder: Encoder
    input: InputConfig
    decoders: dict[Target, Ensemble]
    cascade: CascadeConfig
    about: str  # what its card says, in a line
    second_look: Ensemble | None = None


def run(config: BundleConfig) -> int:
    refuse_overwriting([config.out], [*_inputs(config), config.encoder_checkpoint])
    runs = load_runs(runs_of(config))
    first = runs["roi"][0]
    record = as_record(first.signature.encoder, EncoderRecord, first.path)
    cascade = decide_second_look(config.cascade, record.name, has_decoder=record.name in CHECKPOINTS)
    evaluations = read_evaluations(as_list(config.metrics), runs, cascade)
    today = datetime.now(timezone.utc).date().isoformat()
    card = Card(today, config.data_name, config.data_license, evaluations)
    encoder = trained_encoder(record, config.encoder_checkpoint)
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder.vit.state_dict().items()}
    for target, some in runs.items():
        for prefix, trained in zip(_prefixes(target, len(some)), some):
            own = tensors_of(trained.decoder, trained.detail)
            tensors.update({f"{prefix}.{name}": tensor for name, tensor in own.items()})
    if cascade.second_look:
        own = own_decoder(record, config.encoder_checkpoint)
        tensors.update({f"{CHECKPOINT}.{name}": tensor for name, tensor in own.state_dict().items()})
    origin = origin_of(record.name, record.weights_sha256)
    header = Header(
        _format(runs, cascade),
        __version__,
        asdict(record),
        first.signature.input,
        {target: some[0].prompt for target, some in runs.items()},
        cascade,
        {target: _shard_sets(some) for target, some in runs.items()},
        asdict(origin) if origin else {},
        card,
    )
    write_tensors(config.out, tensors, asdict(header))
    parts = [target if len(some) == 1 else f"{len(some)} {target}" for target, some in runs.items()]
    say(f"{' + '.join(['encoder', *parts])}, {config.out.stat().st_size / 2**20:.1f} MiB: {config.out}")
    say(line_of(header))
    return 0


def _format(runs: Mapping[Target, Sequence[TrainedDecoder]], cascade: CascadeConfig) -> int:
    if any(trained.detail for _, trained in each_run(runs)):
        return WITH_DETAIL
    if cascade.second_look:
        return SECOND_LOOK
    return ONE_RUN if all(len(some) == 1 for some in runs.values()) else SEVERAL_RUNS


def _prefixes(target: Target, count: int) -> list[str]:
    """Of the tensors of each of a target's runs."""
    return [target] if count == 1 else [f"{target}.{number}" for number in range(count)]


def _shard_sets(runs: Sequence[TrainedDecoder]) -> ShardSetRecord | list[ShardSetRecord]:
    one, *others = (trained.shard_set for trained in runs)
    return [one, *others] if others else one


def _inputs(config: BundleConfig) -> Iterator[Path]:
    """The files of the runs and evaluations; a bundle that lies in a run's folder is none of them."""
    for folder in as_list(config.metrics):
        yield folder / METRICS
    for folder in chain(*runs_of(config).values()):
        for path in files_in(folder):
            if path.suffix != ".safetensors" or path.name == DECODER or path.parent != folder:
                yield path


def read_bundle(path: Path, option: str = "--model") -> Bundle:
    """Raises `OptionError` when the file is missing, `KitsamError` when it is no bundle."""
    if not path.is_file():
        raise OptionError(f"{option}: no such file: {path}")
    tensors, content = read_tensors(path)
    header = as_header(content, path)
    record = as_record(header.encoder, EncoderRecord, path)
    encoder = Encoder(record.name, record.input_size)
    encoder.load_own(_part(tensors, "encoder"), path)
    size = record.grid, record.input_size
    ensembles = {}
    for target, prompt in header.prompts.items():
        parts = [_part(tensors, prefix) for prefix in _prefixes(target, header.count(target))]
        decoders = tuple(decoder_from(part, *size, str(path)) for part in parts)
        for decoder in decoders:
            decoder.sight = prompt.sight
        details = (detail_from(part, str(path)) for part in parts)
        ensembles[target] = Ensemble(decoders, prompt, tuple(filter(None, details)))
    second_look = None
    if header.cascade.second_look:
        second_look = second_look_by(decoder_from(_part(tensors, CHECKPOINT), *size, str(path)))
    input_settings = as_record(header.input, InputConfig, path)
    return Bundle(encoder, input_settings, ensembles, header.cascade, line_of(header), second_look)


def _part(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
