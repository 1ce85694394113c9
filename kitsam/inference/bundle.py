"""One safetensors file with all that `kitsam predict` needs.

Tensors `encoder.*`, `roi.*`, `tumor.*`, `cyst.*`; the header's `kitsam` entry is JSON: encoder, input settings, each
decoder's prompts and the shard set it was trained on, and the cascade's settings.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from kitsam import __version__
from kitsam.ct.config import InputConfig
from kitsam.ct.labels import Target
from kitsam.decoding.ask import TargetDecoder
from kitsam.decoding.config import PromptConfig
from kitsam.decoding.runs import DECODER, ShardSetRecord, load_runs
from kitsam.inference.config import BundleConfig, CascadeConfig
from kitsam.sam.checkpoints import origin_of
from kitsam.sam.config import EncoderConfig
from kitsam.sam.decoder import decoder_from
from kitsam.sam.encoder import Encoder, EncoderRecord, build_encoder
from kitsam.system.console import say
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.outputs import files_in, refuse_overwriting
from kitsam.system.records import as_record
from kitsam.system.tensors import read_tensors, write_tensors

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds, on the CPU."""

    encoder: Encoder
    input: InputConfig
    decoders: dict[Target, TargetDecoder]
    cascade: CascadeConfig


@dataclass(frozen=True)
class _Header:
    """The header's `kitsam` entry."""

    format: int
    kitsam: str  # version that wrote the bundle
    encoder: EncoderRecord
    input: dict[str, Any]
    prompts: dict[Target, PromptConfig]
    cascade: CascadeConfig = field(default_factory=CascadeConfig)
    shard_sets: dict[Target, ShardSetRecord] = field(default_factory=dict)  # what each decoder was trained on
    weights: dict[str, str] = field(default_factory=dict)  # source and license of the encoder's, where they are known


def run(config: BundleConfig) -> int:
    refuse_overwriting([config.out], [*_inputs(config), config.encoder_checkpoint])
    runs = load_runs(config.roi, config.tumor, config.cyst)
    signature = runs["roi"].signature
    record = as_record(signature.encoder, EncoderRecord, runs["roi"].path)
    encoder = _encoder_of(record, config)
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder.vit.state_dict().items()}
    for target, trained in runs.items():
        tensors.update({f"{target}.{name}": tensor for name, tensor in trained.decoder.state_dict().items()})
    prompts = {target: trained.prompt for target, trained in runs.items()}
    shard_sets = {target: trained.shard_set for target, trained in runs.items()}
    origin = origin_of(record.name, record.weights_sha256)
    header = _Header(
        FORMAT_VERSION,
        __version__,
        record,
        signature.input,
        prompts,
        config.cascade,
        shard_sets,
        asdict(origin) if origin else {},
    )
    write_tensors(config.out, tensors, asdict(header))
    say(f"{' + '.join(['encoder', *runs])}, {config.out.stat().st_size / 2**20:.1f} MiB: {config.out}")
    return 0


def _inputs(config: BundleConfig) -> Iterator[Path]:
    """The files of the runs; a bundle that lies in a run's folder is none of them."""
    for folder in filter(None, (config.roi, config.tumor, config.cyst)):
        for path in files_in(folder):
            if path.suffix != ".safetensors" or path.name == DECODER or path.parent != folder:
                yield path


def _encoder_of(record: EncoderRecord, config: BundleConfig) -> Encoder:
    """Raises `OptionError` where its weights are not those that the decoders were trained with."""
    seed = {} if record.seed is None else {"seed": record.seed}
    encoder, actual = build_encoder(EncoderConfig(record.name, config.encoder_checkpoint, record.input_size, **seed))
    if actual != record:
        raise OptionError(
            f"--encoder_checkpoint: the decoders were trained with weights {record.weights_sha256[:12]}..., "
            f"these are {actual.weights_sha256[:12]}..."
        )
    return encoder


def read_bundle(path: Path, option: str = "--model") -> Bundle:
    """Raises `OptionError` when the file is missing, `KitsamError` when it is no bundle."""
    if not path.is_file():
        raise OptionError(f"{option}: no such file: {path}")
    tensors, content = read_tensors(path)
    if content is None or content.get("format") != FORMAT_VERSION:
        raise KitsamError(f"{path}: not a bundle of format {FORMAT_VERSION}")
    header = as_record(content, _Header, path)
    encoder = Encoder(header.encoder.name, header.encoder.input_size)
    encoder.load_own(_part(tensors, "encoder"), path)
    size = header.encoder.grid, header.encoder.input_size
    decoders = {
        target: TargetDecoder(decoder_from(_part(tensors, target), *size, str(path)), prompt)
        for target, prompt in header.prompts.items()
    }
    return Bundle(encoder, as_record(header.input, InputConfig, path), decoders, header.cascade)


def _part(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
