"""One safetensors file with all that `kitsam predict` needs.

Tensors `encoder.*`, `roi.*`, `tumor.*`, `cyst.*`; the header's `kitsam` entry is JSON: encoder, input settings, each
decoder's prompts, and the cascade's settings.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from kitsam import __version__
from kitsam.cascade import AskedDecoder, Cascade
from kitsam.config import BundleConfig, CascadeConfig, EncoderConfig, InputConfig
from kitsam.console import say
from kitsam.errors import KitsamError, OptionError
from kitsam.sam.decoder import decoder_from
from kitsam.sam.encoder import Encoder, EncoderRecord, build_encoder
from kitsam.shards.manifest import check_signature
from kitsam.tensors import write_tensors
from kitsam.training.checkpoint import TrainedDecoder, load_run, prompt_from

FORMAT_VERSION = 1
TARGETS = ("roi", "tumor", "cyst")


@dataclass(frozen=True)
class Bundle:
    encoder: Encoder
    input: InputConfig
    cascade: Callable[[torch.device], Cascade]


def load_runs(roi: Path, tumor: Path | None, cyst: Path | None) -> dict[str, TrainedDecoder]:
    """The runs by target. Raises `ShardError` when they were trained on embeddings of different encoders or windows."""
    paths = {"roi": roi, "tumor": tumor, "cyst": cyst}
    runs = {target: load_run(path, target) for target, path in paths.items() if path}
    for run in runs.values():
        check_signature(runs["roi"].signature, run.signature, runs["roi"].path, run.path)
    return runs


def cascade_of(runs: dict[str, TrainedDecoder], config: CascadeConfig, device: torch.device) -> Cascade:
    asked = {target: AskedDecoder(run.decoder, run.prompt) for target, run in runs.items()}
    return Cascade(asked["roi"], asked.get("tumor"), asked.get("cyst"), config, device)


def run(config: BundleConfig) -> int:
    runs = load_runs(config.roi, config.tumor, config.cyst)
    signature = runs["roi"].signature
    record = EncoderRecord(**signature["encoder"])
    seed = {} if record.seed is None else {"seed": record.seed}
    encoder, found = build_encoder(EncoderConfig(record.name, config.encoder_checkpoint, record.input_size, **seed))
    if found != record:
        raise OptionError(
            f"--encoder_checkpoint: the decoders were trained with weights {record.weights_sha256[:12]}..., "
            f"these are {found.weights_sha256[:12]}..."
        )
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder.vit.state_dict().items()}
    for target, trained in runs.items():
        tensors.update({f"{target}.{name}": tensor for name, tensor in trained.decoder.state_dict().items()})
    header = {
        "format": FORMAT_VERSION,
        "kitsam": __version__,
        **signature,
        "prompts": {target: asdict(trained.prompt) for target, trained in runs.items()},
        "cascade": asdict(config.cascade),
    }
    write_tensors(config.out, tensors, {"kitsam": json.dumps(header)})
    say(f"{' + '.join(['encoder', *runs])}, {config.out.stat().st_size / 2**20:.1f} MiB: {config.out}")
    return 0


def read_bundle(path: Path, option: str = "--model") -> Bundle:
    """Raises `OptionError` when the file is missing, `KitsamError` when it is no bundle."""
    if not path.is_file():
        raise OptionError(f"{option}: no such file: {path}")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("kitsam", "null"))
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise KitsamError(f"{path}: cannot be read as a bundle: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT_VERSION:
        raise KitsamError(f"{path}: not a bundle of format {FORMAT_VERSION}")
    record = EncoderRecord(**header["encoder"])
    encoder = Encoder(record.name, record.input_size)
    encoder.vit.load_state_dict(_part(tensors, "encoder"))
    asked = {
        target: AskedDecoder(decoder_from(_part(tensors, target), record.grid, str(path)), prompt_from(prompt))
        for target, prompt in header["prompts"].items()
    }
    config = CascadeConfig(**header["cascade"])

    def cascade(device: torch.device) -> Cascade:
        return Cascade(asked["roi"], asked.get("tumor"), asked.get("cyst"), config, device)

    return Bundle(encoder, _input_from(header["input"]), cascade)


def _part(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}


def _input_from(settings: dict[str, Any]) -> InputConfig:
    known = {field.name for field in fields(InputConfig)}
    return InputConfig(**{name: value for name, value in settings.items() if name in known})
