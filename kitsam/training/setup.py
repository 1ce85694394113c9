"""What a run is made of: the processes, the decoder and its optimizer, and each process's share of the batches."""

import warnings
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from accelerate.tracking import TensorBoardTracker
from accelerate.utils import (
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
    is_wandb_available,
)

from kitsam.config import TrainConfig
from kitsam.embedding import INITIAL_DECODER
from kitsam.errors import OptionError
from kitsam.processes import UNEVEN, end_with_launcher, use_bfloat16, use_cpu
from kitsam.sam.decoder import BoxDecoder, decoder_from, random_decoder
from kitsam.seeds import derive
from kitsam.shards.batches import batches
from kitsam.shards.manifest import check_signature
from kitsam.shards.reader import Samples, ShardSet
from kitsam.shards.stream import SampleOrder
from kitsam.tensors import read_tensors
from kitsam.training.checkpoint import load_run
from kitsam.training.examples import Examples, make_examples

# Every weight that trains gets a gradient in every step; all 14 MB of them go in one message; buffers never change.
DDP = DistributedDataParallelKwargs(
    find_unused_parameters=False, bucket_cap_mb=32, gradient_as_bucket_view=True, broadcast_buffers=False
)


def check_options(config: TrainConfig) -> None:
    counts = {"steps": config.steps, "batch_size": config.batch_size, "accumulate": config.accumulate}
    for name, value in {**counts, "validation.every": config.validation.every}.items():
        if value < 1:
            raise OptionError(f"--{name}: must be at least 1, not {value}")
    if config.wandb and not is_wandb_available():
        raise OptionError("--wandb: the package wandb is not installed")
    if config.step_timeout <= 0:
        raise OptionError(f"--step_timeout: must be above 0 seconds, not {config.step_timeout}")


def make_accelerator(config: TrainConfig) -> Accelerator:
    end_with_launcher()
    cpu = use_cpu(config.device)
    bfloat16 = use_bfloat16(config.precision, torch.device("cpu" if cpu else "cuda"))
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="bf16" if bfloat16 else "no",
        log_with=TensorBoardTracker("tensorboard", config.out),
        kwargs_handlers=[DDP, InitProcessGroupKwargs(timeout=UNEVEN)],
    )
    if config.batch_size % accelerator.num_processes:
        raise OptionError(f"--batch_size: {config.batch_size} slices cannot be shared evenly by {accelerator.num_processes} processes")
    return accelerator


def initial_decoder(config: TrainConfig, shards: ShardSet) -> BoxDecoder:
    """SAM's own decoder, which `kitsam embed` put beside the manifest, or a new one, or the ROI decoder."""
    if config.start_from:
        start = load_run(config.start_from, "roi", "start_from")
        check_signature(start.signature, shards.manifest.signature, start.path, config.shards)
        return start.decoder
    path = None if config.init == "random" else shards.source.small_file(INITIAL_DECODER)
    if config.init == "checkpoint" and path is None:
        raise OptionError(f"--init: {config.shards} has no decoder of SAM: its encoder has no checkpoint")
    if path is None:
        return random_decoder(shards.manifest.grid, derive(config.seed, "decoder", config.target))
    return decoder_from(read_tensors(path), shards.manifest.grid, str(path))


def prepare(accelerator: Accelerator, decoder: BoxDecoder, config: TrainConfig):
    """The decoder as the processes train it, and its optimizer."""
    trained = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
    options = config.optimizer
    optimizer = torch.optim.AdamW(trained, lr=options.peak_rate, betas=options.betas, weight_decay=options.weight_decay, fused=True)
    with warnings.catch_warnings():
        # What takes its place is neither in accelerate nor in all versions of torch that are supported.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return accelerator.prepare(decoder, optimizer)


def examples_of_steps(
    accelerator: Accelerator, shards: ShardSet, order: SampleOrder, config: TrainConfig, steps: range
) -> Iterator[Examples]:
    """This process's share of each step's batch, made ahead by threads."""

    def examples(step: int, samples: Samples) -> Examples:
        made = make_examples(
            samples, config.target, config.prompt, config.seed, step, config.shift, config.loss.lesion
        )
        return made.pinned() if accelerator.device.type == "cuda" else made

    return batches(
        shards,
        order,
        steps,
        examples,
        rank=accelerator.process_index,
        ranks=accelerator.num_processes,
        workers=config.workers,
        fetch_ahead=config.cache.ahead if accelerator.is_local_main_process else 0,
    )
