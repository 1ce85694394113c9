"""What a step of each stage costs on one device, and where each number comes from.

A number is given by the user, read from the figures of another benchmark, measured once and kept here with its machine,
computed from others, or assumed. Tables show which.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from kitsam.bench.config import BenchScaleConfig
from kitsam.bench.encoder import count_flops
from kitsam.system.precision import Format
from kitsam.system.records import read_record

BATCH = 64  # slices of a step
STEP_FLOPS = 2.1e12  # of a step of 64 slices with a grid of 64: `bench decoder`'s, counted by torch
H100_FLOPS = 989e12  # a second, dense bfloat16: NVIDIA's data sheet of the H100 SXM
ENCODER_SHARE, DECODER_SHARE = 0.4, 0.1  # of them that are reached: what the encoder is to reach; a guess
FORWARD_SHARE = 1 / 3  # of a step: backward costs twice as much
HERE = "measured: one core, Xeon with AVX-512, November 2026"


class Cost(NamedTuple):
    value: float
    source: str


@dataclass(frozen=True)
class Costs:
    """Of one process with one device, seconds if not said otherwise."""

    slice: Cost  # to encode one
    step: Cost  # of 64 slices: forward, backward, optimizer
    answer: Cost  # of a decoder, to one box
    launch: Cost  # least that a step takes, however few its slices
    exchange: Cost  # of 14 MB of gradients between two processes, added up by all
    hop: Cost  # of a message from one to the next, of `exchange`
    pack: Cost  # of the host, to make, hash and write a sample, all threads together
    join: Cost  # of the host, to read, hash, write and hash a sample of what is joined, all threads together
    read: Cost  # a sample of a batch, with its questions
    cleanup: Cost  # of the host in the cascade, a slice
    score: Cost  # of the host, to write and score a slice
    storage: Cost  # bytes a second that all processes together read or write


def costs_of(config: BenchScaleConfig) -> Costs:
    costs = h100()
    if config.encoder:
        costs = replace(costs, slice=_slice_of(config.encoder))
    if config.decoder:
        costs = replace(costs, step=_step_of_decoder(config.decoder))
    if config.training:
        costs = _with_training(costs, config.training)
    options = {"slice": config.slice_seconds, "step": config.step_seconds, "exchange": config.exchange_seconds}
    given = {name: Cost(value, "given") for name, value in options.items() if value is not None}
    storage = Cost(config.storage * 1e9, "--storage")
    return _with_answer(replace(costs, storage=storage, **given))


def _with_answer(costs: Costs) -> Costs:
    seconds = costs.step.value / BATCH * FORWARD_SHARE
    return replace(costs, answer=Cost(seconds, "computed: a third of a slice's share of a step"))


def h100() -> Costs:
    """Where nothing was measured on one."""
    slice_seconds = count_flops("vit_b") / (ENCODER_SHARE * H100_FLOPS)
    step_seconds = STEP_FLOPS / (DECODER_SHARE * H100_FLOPS)
    costs = Costs(
        slice=Cost(slice_seconds, f"computed: vit_b at {ENCODER_SHARE:.0%} of an H100's 989 TFLOP/s"),
        step=Cost(step_seconds, f"computed: 2.1 TFLOP at {DECODER_SHARE:.0%} of an H100's 989 TFLOP/s"),
        answer=Cost(0.0, ""),
        launch=Cost(5e-3, "assumed: some thousand kernels"),
        exchange=Cost(14e6 / 25e9 + 20e-6, "assumed: 14 MB at 25 GB/s"),
        hop=Cost(10e-6, "assumed"),
        pack=Cost(1.1e-3, f"{HERE}; 4 + 2 threads"),
        join=Cost(1.1e-3, "assumed: as long as packing"),
        read=Cost(1 / 1500, "assumed: what bench shards --target tumor is to reach"),
        cleanup=Cost(1.1e-3, "measured: bench cascade, one core, Xeon, November 2026"),
        score=Cost(2.4e-3, "measured: bench evaluator, two workers, Xeon, November 2026"),
        storage=Cost(20e9, ""),
    )
    return _with_answer(costs)


def laptop() -> Costs:
    """`lite_medsam` on a processor of eight cores, as four times the two that were measured."""
    source = "computed: a quarter of what two cores take (docs/benchmarks.md, Xeon with AVX-512, November 2026)"
    costs = replace(
        h100(),
        slice=Cost(1 / 1.923 / 4, source),
        step=Cost(BATCH / 32 / 0.31 / 4, source),
        storage=Cost(1e9, "assumed: a laptop's disk"),
    )
    return _with_answer(costs)


@dataclass(frozen=True)
class _EncoderFigures:
    """Of `kitsam bench encoder --json`."""

    machine: dict[str, str]
    encoder: str
    chosen: Format
    encoders: dict[str, dict[str, float]]


@dataclass(frozen=True)
class _DecoderFigures:
    """Of `kitsam bench decoder --json`."""

    machine: dict[str, str]
    batch_size: int
    decoders: dict[str, dict[str, float]]


@dataclass(frozen=True)
class _TrainingFigures:
    """Of `kitsam bench training --json`."""

    machine: dict[str, str]
    batch_size: int
    processes: int
    seconds_per_step: float
    parts: dict[str, float]


def _slice_of(path: Path) -> Cost:
    figures = read_record(path, _EncoderFigures)
    rate = figures.encoders[f"kitsam, {figures.chosen}"]["images_per_second"]
    return Cost(1 / rate, f"measured: {figures.encoder} in {figures.chosen}, {_where(figures.machine)}")


def _step_of_decoder(path: Path) -> Cost:
    figures = read_record(path, _DecoderFigures)
    ours = {name: one["steps_per_second"] for name, one in figures.decoders.items() if name.startswith("kitsam")}
    best = max(ours, key=ours.__getitem__)
    seconds = BATCH / figures.batch_size / ours[best]
    return Cost(seconds, f"measured: {best}, {figures.batch_size} slices, {_where(figures.machine)}")


def _with_training(costs: Costs, path: Path) -> Costs:
    figures = read_record(path, _TrainingFigures)
    where = _where(figures.machine)
    share = BATCH * figures.processes / figures.batch_size
    exchange = figures.parts["gradients"]
    computed = figures.seconds_per_step - exchange
    costs = replace(costs, step=Cost(share * computed, f"measured: {figures.batch_size} slices a step, {where}"))
    if figures.processes == 2:
        costs = replace(costs, exchange=Cost(exchange, f"measured: two processes, {where}"))
    return costs


def _where(machine: dict[str, str]) -> str:
    device = machine["cpu"] if machine["gpu"] == "none" else machine["gpu"]
    return f"{device}, {machine['date']}"
