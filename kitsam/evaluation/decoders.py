"""What labels the validation cases: trained runs by the cascade, or the checkpoint's own decoder."""

from collections.abc import Callable
from typing import TypeVar

import torch

from kitsam.ct.body import BodyBox
from kitsam.ct.case import CaseFiles
from kitsam.ct.labels import Target
from kitsam.decoding.ensemble import ensemble_of
from kitsam.decoding.initial import read_initial_decoder
from kitsam.decoding.runs import TrainedDecoder
from kitsam.evaluation.config import EvaluateConfig
from kitsam.evaluation.flips import flipped, mirrored_encoder
from kitsam.evaluation.labelling import ByCascade, ByTrueBoxes, Embeddings, Labelling, OnWholeSlices
from kitsam.evaluation.scans import grays_in
from kitsam.inference.cascade import EmbeddingSource, cascade_of
from kitsam.inference.second_look import second_look_by
from kitsam.sam.decoder import BoxDecoder
from kitsam.shards.manifest import ShardEntry
from kitsam.shards.reader import ShardSet
from kitsam.system.coordination import together
from kitsam.system.errors import OptionError

T = TypeVar("T")
TrainedRuns = dict[Target, list[TrainedDecoder]]


def by_target(runs: TrainedRuns, look: Callable[[TrainedDecoder], T]) -> dict[Target, T | list[T]]:
    """What is kept of the runs: of a target's one run a value, of several a list of them."""
    values = {target: [look(trained) for trained in some] for target, some in runs.items()}
    return {target: some[0] if len(some) == 1 else some for target, some in values.items()}


def labelling_of(
    config: EvaluateConfig,
    files: dict[str, CaseFiles],
    shards: ShardSet,
    runs: TrainedRuns,  # none for a baseline without training
    device: torch.device,
) -> Labelling:
    """By the runs' cascade, or by true boxes without training. All processes must call this."""

    def stored(entry: ShardEntry) -> EmbeddingSource:
        return lambda first, count: shards.validation_slices(entry, first, count).embeddings(device)

    def body_of(entry: ShardEntry) -> BodyBox:
        return next(shards.labels(entry)).record.body

    is_cut = "crop" in shards.manifest.input
    if runs:
        ensembles = {target: ensemble_of(some) for target, some in runs.items()}
        embeddings: Embeddings = stored
        if config.flips:
            encode = together(lambda: mirrored_encoder(config, shards.manifest, device))
            encode.choose_attention("auto")
            embeddings = flipped(stored, encode, files, body_of if is_cut else None)
        second_look = None
        if config.cascade.second_look:
            decoder = together(lambda: _initial_decoder(config, shards, "cascade.second_look"))
            second_look = second_look_by(decoder)
        cascade = cascade_of(ensembles, config.cascade, device, second_look)
        grays = None
        if cascade.sees_details:
            grays = grays_in(files, shards.manifest, config.shards, body_of if is_cut else None)
        labelling = ByCascade(cascade, embeddings, grays)
    else:
        decoder = together(lambda: _initial_decoder(config, shards, "zero_shot")).to(device).eval()
        labelling = ByTrueBoxes(decoder, stored, config.cascade.batch_size)
    return OnWholeSlices(labelling, body_of) if is_cut else labelling


def _initial_decoder(config: EvaluateConfig, shards: ShardSet, option: str) -> BoxDecoder:
    decoder = read_initial_decoder(shards, config.shards)
    if decoder is None:
        raise OptionError(f"--{option}: {config.shards} has no decoder of SAM: its encoder has no checkpoint")
    return decoder
