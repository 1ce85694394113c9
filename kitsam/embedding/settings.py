"""All that decides the content of a shard set's shards, as its plan and its manifest keep it."""

from dataclasses import asdict, replace
from typing import Any

import torch

from kitsam.ct.config import InputConfig, ViewsConfig
from kitsam.decoding.config import PromptConfig
from kitsam.embedding.config import EmbedConfig
from kitsam.embedding.plan import Plan
from kitsam.embedding.units import count_samples, units_of
from kitsam.sam.encoder import Encoder, EncoderRecord
from kitsam.sam.encoding import SliceEncoder
from kitsam.system.precision import faster_format


def settings_of(config: EmbedConfig, record: EncoderRecord) -> dict[str, Any]:
    """All that decides the content of the shards."""
    return {
        "encoder": asdict(record),
        "input": input_settings(config.input),
        "views": views_settings(config.views),
        "folds": config.folds,
        "val_fraction": config.val_fraction,
        "background_ratio": config.background_ratio,
        "group_cases": config.group_cases,
        "shard_samples": config.shard_samples,
        "storage": config.storage,
        "precision": config.precision,
        "keep_ct": config.keep_ct,
        "boxes": {"merge": PromptConfig.merge, "smallest": PromptConfig.smallest},
        "seed": config.seed,
    }


def views_settings(config: ViewsConfig) -> dict[str, Any]:
    """Of the changes that came later, those in use: sets without them stay what they are."""
    return {name: value for name, value in asdict(config).items() if value or name not in ("mirror", "shift")}


def input_settings(config: InputConfig) -> dict[str, Any]:
    """What is in use, as JSON keeps it; sets of whole slices, which were first, have no `crop`."""
    crop = {} if config.crop == "none" else {"crop": config.crop}
    if config.channels == "windows":
        return {"channels": config.channels, "windows": [list(window) for window in config.windows], **crop}
    return {"channels": config.channels, "window": list(config.window), **crop}


def with_precision(plan: Plan, encoder: Encoder, config: EmbedConfig, processes: int, device: torch.device) -> Plan:
    """The same plan, in the number format that is faster here where none is named and none was begun with."""
    if plan.settings["precision"] != "auto":
        return plan

    def encode_slice(bfloat16: bool) -> None:
        SliceEncoder(encoder, config.input, bfloat16, device, batch_size=1).blank_batch()

    slices = count_samples(units_of(plan, config)) / processes
    precision = faster_format(encode_slice, slices, device, "a slice")
    return replace(plan, settings={**plan.settings, "precision": precision})
