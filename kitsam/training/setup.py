"""What a run is made of: the processes, the decoder and its optimizer, and each process's share of the batches."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.tracking import TensorBoardTracker
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn
from torch.optim import Optimizer

from kitsam.ct.labels import CLASS_NAMES, TARGET_CLASSES, Target
from kitsam.ct.strata import STRATA, strata_for
from kitsam.decoding.detail import DetailNets
from kitsam.decoding.initial import read_initial_decoder
from kitsam.decoding.records import DecoderRecord
from kitsam.decoding.runs import TrainedDecoder, check_leak, load_run, record_of
from kitsam.sam.decoder import BoxDecoder, random_decoder
from kitsam.shards.batches import batches
from kitsam.shards.kidneys import KidneyBoxes
from kitsam.shards.manifest import check_signature
from kitsam.shards.order import SampleOrder, holds
from kitsam.shards.reader import Samples, ShardSet
from kitsam.system.console import say
from kitsam.system.coordination import decide, together
from kitsam.system.errors import OptionError
from kitsam.system.processes import START_LIMIT, start_processes, use_cpu
from kitsam.system.seeds import derive
from kitsam.training.case_weights import case_weights
from kitsam.training.config import TrainConfig
from kitsam.training.detail import train_detail
from kitsam.training.precision import run_format
from kitsam.training.questions import Questions, questioner

# Every weight that trains gets a gradient in every step; all 14 MB of them go in one message; buffers never change.
DDP = DistributedDataParallelKwargs(
    find_unused_parameters=False, bucket_cap_mb=32, gradient_as_bucket_view=True, broadcast_buffers=False
)


@dataclass(frozen=True)
class Training:
    """All that takes part in a run's steps."""

    config: TrainConfig
    accelerator: Accelerator
    shards: ShardSet
    kidneys: KidneyBoxes  # of its slices
    order: SampleOrder
    decoder: BoxDecoder
    record: DecoderRecord  # what is kept with the decoder
    model: nn.Module  # the decoder as the processes train it
    optimizer: Optimizer

    @cached_property
    def detail(self) -> DetailNets | None:
        """The networks beside the decoder, if there are to be some, trained when they are first asked for."""
        config = self.config
        if not config.detail:
            return None
        say("Training networks for detail, which takes up to a minute or two")
        return train_detail(self.shards, self.order, config.target, config.seed)

    def questions(self, steps: range) -> Iterator[Questions]:
        """This process's share of each step's batch, drawn ahead by threads, in memory of the CPU."""
        config, accelerator = self.config, self.accelerator
        weights = case_weights(self.shards, self.order, config.loss.cases) if config.loss.cases else None
        draw = questioner(self.kidneys, config.target, config.prompt, config.seed, config.shift, weights)

        def draw_pinned(step: int, samples: Samples) -> Questions:
            return draw(step, samples).pinned()

        return batches(
            self.shards,
            self.order,
            steps,
            draw_pinned if accelerator.device.type == "cuda" else draw,
            rank=accelerator.process_index,
            ranks=accelerator.num_processes,
            workers=config.workers,
            fetch_ahead=config.cache.ahead if accelerator.is_local_main_process else 0,
        )


def set_up(config: TrainConfig) -> Training:
    """Raises `OptionError` for options that do not fit the processes or the shard set."""
    processes = _start_processes(config)
    shards, order, decoder, record = together(lambda: _read(config))
    precision = decide(lambda: run_format(config, decoder, processes.device, processes.num_processes))
    config = replace(config, precision=precision)
    accelerator = _make_accelerator(config)
    kidneys = KidneyBoxes(shards, config.prompt.merge, config.prompt.smallest)
    model, optimizer = _prepare(accelerator, decoder, config)
    return Training(config, accelerator, shards, kidneys, order, decoder, record, model, optimizer)


def _read(config: TrainConfig) -> tuple[ShardSet, SampleOrder, BoxDecoder, DecoderRecord]:
    """What each process reads for itself, nothing of which it waits for."""
    shards = ShardSet(config.shards, config.cache, fold=config.fold)
    order = shards.order(config.quotas, config.batch_size, config.seed, strata_for(config.target))
    _check_target(config, shards, order)
    if config.detail:
        _check_detail(config, shards)
    start = _start(config, shards)
    decoder = start.decoder if start else _initial_decoder(config, shards)
    decoder.sight = config.prompt.sight
    return shards, order, decoder, DecoderRecord(config.target, config.prompt, record_of(shards, start))


def _start_processes(config: TrainConfig) -> PartialState:
    processes = start_processes(config.device, START_LIMIT)
    if config.batch_size % processes.num_processes:
        raise OptionError(
            f"--batch_size: {config.batch_size} slices cannot be shared evenly by {processes.num_processes} processes"
        )
    return processes


def _make_accelerator(config: TrainConfig) -> Accelerator:
    # It would keep to the number format of the process's first run; `kitsam demo` trains three in one process.
    AcceleratorState._reset_state()
    return Accelerator(
        cpu=use_cpu(config.device),
        mixed_precision="bf16" if config.precision == "bf16" else "no",
        log_with=TensorBoardTracker("tensorboard", config.out),
        kwargs_handlers=[DDP],
    )


def _check_target(config: TrainConfig, shards: ShardSet, order: SampleOrder) -> None:
    """Raises `OptionError` where no slice to train on holds what the decoder must find: it would learn nothing."""
    strata = {stratum for stratum in STRATA if holds(stratum, config.target)}
    if strata & order.strata.keys():
        return
    if strata & shards.order("natural", config.batch_size, config.seed, strata_for(config.target)).strata.keys():
        raise OptionError(f"--quotas: no share for any slice with {target_words(config.target)}, so nothing to learn")
    fold = "" if config.fold is None else f", fold {config.fold},"
    raise OptionError(
        f"--target: no slice of the training cases of {config.shards}{fold} holds {target_words(config.target)}: "
        f"there is nothing for a {config.target} decoder to learn from"
    )


def _check_detail(config: TrainConfig, shards: ShardSet) -> None:
    if config.target == "roi":
        raise OptionError("--detail: for lesion decoders: it is about what lies in a kidney")
    if not shards.manifest.settings.get("keep_ct"):
        raise OptionError(f"--detail: {config.shards} keeps no CT: embed it with --keep-ct")


def target_words(target: Target) -> str:
    """The classes that the decoder must find."""
    return " or ".join(CLASS_NAMES[number] for number in TARGET_CLASSES[target])


def _start(config: TrainConfig, shards: ShardSet) -> TrainedDecoder | None:
    """The decoder to start from, if there is to be one, and if it fits the shard set."""
    if config.start_from is None:
        return None
    start = load_run(config.start_from, None, "start_from")
    check_signature(start.signature, shards.manifest.signature, start.path, config.shards)
    check_leak(start, shards.manifest, "start_from", config.shards)
    return start


def _initial_decoder(config: TrainConfig, shards: ShardSet) -> BoxDecoder:
    """The checkpoint's own decoder or a new one."""
    decoder = None if config.init == "random" else read_initial_decoder(shards, config.shards)
    if config.init == "checkpoint" and decoder is None:
        raise OptionError(f"--init: {config.shards} has no decoder of SAM: its encoder has no checkpoint")
    manifest = shards.manifest
    return decoder or random_decoder(manifest.grid, manifest.input_size, derive(config.seed, "decoder", config.target))


def _prepare(accelerator: Accelerator, decoder: BoxDecoder, config: TrainConfig) -> tuple[nn.Module, Optimizer]:
    """The decoder as the processes train it, and its optimizer."""
    weights = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
    options = config.optimizer
    optimizer = torch.optim.AdamW(
        weights, lr=options.peak_rate, betas=options.betas, weight_decay=options.weight_decay, fused=True
    )
    with warnings.catch_warnings():
        # What takes its place is neither in accelerate nor in all versions of torch that are supported.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return accelerator.prepare(decoder, optimizer)
