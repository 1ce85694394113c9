"""Stage 2: shards -> batches -> one decoder.

Accelerate owns processes, precision, gradient synchronization, trackers and checkpoints. The batches and the learning
rate are functions of the step and are never handed to it, so that any number of processes sees the same samples and a run goes on
from a checkpoint as if it had never stopped. A batch counts slices; a slice may hold several boxes, and losses are
normalized by the boxes of the global batch.
"""

import json
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor

from kitsam.compiling import compile_where_it_pays
from kitsam.config import TrainConfig
from kitsam.console import progress, say
from kitsam.embedding import INITIAL_DECODER
from kitsam.errors import KitsamError, OptionError
from kitsam.files import write_json, write_text
from kitsam.kits.strata import negative_ratio
from kitsam.processes import (
    UNEVEN,
    answer_within,
    end_with_launcher,
    losing_no_process,
    unevenly,
    use_bfloat16,
    use_cpu,
)
from kitsam.sam.decoder import BoxDecoder, decoder_from, random_decoder
from kitsam.seeds import derive
from kitsam.shards.batches import batches
from kitsam.shards.manifest import check_signature
from kitsam.shards.reader import Samples, ShardSet
from kitsam.shards.stream import SampleOrder
from kitsam.tensors import read_tensors
from kitsam.training.checkpoint import (
    DECODER,
    Progress,
    load_last_checkpoint,
    load_run,
    open_run,
    save_checkpoint,
    save_decoder,
)
from kitsam.training.examples import Examples, make_examples, strata_for
from kitsam.training.pictures import validation_pictures
from kitsam.training.schedule import learning_rate
from kitsam.training.step import train_step, trial_step
from kitsam.training.validation import validate

METRICS = "metrics.jsonl"
NONFINITE = "nonfinite.json"
# Every weight that trains gets a gradient in every step; all 16 MB of them go in one message; buffers never change.
DDP = DistributedDataParallelKwargs(
    find_unused_parameters=False, bucket_cap_mb=32, gradient_as_bucket_view=True, broadcast_buffers=False
)


def run(config: TrainConfig) -> int:
    with losing_no_process():
        train(config)
    return 0


def train(config: TrainConfig) -> bool:
    """Train to the end, or on from the last checkpoint. Returns whether a signal stopped it before."""
    _check(config)
    accelerator = make_accelerator(config)
    shards = ShardSet(config.shards, config.cache)
    order = shards.order(config.quotas, config.batch_size, config.seed, strata_for(config.target))
    if accelerator.is_main_process:
        open_run(config, shards.manifest)
    accelerator.wait_for_everyone()
    decoder = initial_decoder(config, shards)
    model, optimizer = prepare(accelerator, decoder, config)
    state = load_last_checkpoint(accelerator, config.out)
    if state.finished:
        say(f"The run is finished: step {state.step}, best Dice {state.best_dice:.4f} at step {state.best_step}: {config.out / DECODER}")
        return False
    decoder = accelerator.unwrap_model(model)
    compile_where_it_pays(decoder, config.compile, accelerator.device, lambda: trial_step(accelerator, decoder, config), config.steps - state.step)
    _start_log(accelerator, config, shards, state)
    stopped = _train(accelerator, model, optimizer, shards, order, config, state)
    accelerator.end_training()
    if stopped:
        say(f"Stopped by a signal after step {state.step}, all saved: the same command goes on from there")
    else:
        say(f"Best validation Dice {state.best_dice:.4f} at step {state.best_step}: {config.out / DECODER}")
    return stopped


def _check(config: TrainConfig) -> None:
    counts = {"steps": config.steps, "batch_size": config.batch_size, "accumulate": config.accumulate}
    for name, value in {**counts, "validation.every": config.validation.every}.items():
        if value < 1:
            raise OptionError(f"--{name}: must be at least 1, not {value}")
    if config.step_timeout <= 0:
        raise OptionError(f"--step_timeout: must be above 0 seconds, not {config.step_timeout}")


def make_accelerator(config: TrainConfig) -> Accelerator:
    end_with_launcher()
    cpu = use_cpu(config.device)
    bfloat16 = use_bfloat16(config.precision, torch.device("cpu" if cpu else "cuda"))
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="bf16" if bfloat16 else "no",
        log_with="tensorboard",
        project_dir=config.out,
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


def _start_log(accelerator: Accelerator, config: TrainConfig, shards: ShardSet, state: Progress) -> None:
    if not accelerator.is_main_process:
        return
    accelerator.init_trackers("tensorboard")
    path = config.out / METRICS
    # Steps after the checkpoint will be done again.
    kept = [line for line in _lines(path) if json.loads(line)["step"] <= state.step]
    write_text(path, "".join(f"{line}\n" for line in kept))
    ratio = negative_ratio(shards.manifest.voxels, config.target)
    say(f"{config.target}: {ratio:.1f} negative voxels per positive one; positive pixels weigh {ratio**config.loss.balance:.2f}")
    if state.step:
        say(f"Going on after step {state.step}")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _train(
    accelerator: Accelerator, model, optimizer, shards: ShardSet, order: SampleOrder, config: TrainConfig, state: Progress
) -> bool:
    """Train from `state` to the end, which it keeps up to date. Returns whether a signal stopped it."""
    positive_weight = negative_ratio(shards.manifest.voxels, config.target) ** config.loss.balance
    log = _Log(accelerator, config, shards, order)
    in_step = timedelta(seconds=config.step_timeout)
    made = examples_of_steps(accelerator, shards, order, config, range(state.step, config.steps))
    with _stop_signals() as stop, progress(f"Training {config.target}", config.steps, "steps", state.step) as tick, closing(made):
        for step, batch in enumerate(log.timing(made), state.step):
            losses = train_step(accelerator, model, optimizer, batch, step, positive_weight, config)
            answer_within(in_step)
            state.step = step + 1
            log.add(losses)
            last = state.step == config.steps
            validating = last or state.step % config.validation.every == 0
            saving = validating or state.step % config.checkpoint_every == 0
            if saving or state.step % config.log_every == 0:
                log.write(state.step)
                stopped = _any_process(accelerator, bool(stop))
            else:
                stopped = bool(stop) and accelerator.num_processes == 1
            if validating:
                with unevenly(in_step):
                    _validate(accelerator, model, shards, config, state, log)
                state.finished = last or (config.validation.patience > 0 and state.stale >= config.validation.patience)
            if saving or stopped:
                log.write(state.step)
                save_checkpoint(accelerator, config.out, state, config.keep_checkpoints)
            tick(1, log.note)
            if stopped or state.finished:
                return stopped and not state.finished
    return False


def examples_of_steps(
    accelerator: Accelerator, shards: ShardSet, order: SampleOrder, config: TrainConfig, steps: range
) -> Iterator[Examples]:
    """This process's share of each step's batch, made ahead by threads."""

    def examples(step: int, samples: Samples) -> Examples:
        return make_examples(
            samples, config.target, config.prompt, config.seed, step, config.shift, config.loss.lesion
        )

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


def _validate(accelerator, model, shards: ShardSet, config: TrainConfig, state: Progress, log: "_Log") -> None:
    decoder = accelerator.unwrap_model(model)
    rank, ranks = accelerator.process_index, accelerator.num_processes
    result = validate(decoder, shards, config.target, config.prompt, accelerator.device, rank, ranks)
    score = getattr(result, config.validation.select)
    if score > state.best_dice:
        state.best_dice, state.best_step, state.stale = score, state.step, 0
        if accelerator.is_main_process:
            save_decoder(config.out, decoder)
    else:
        state.stale += 1
    if accelerator.is_main_process:
        log.show(validation_pictures(decoder, shards, config.target, config.prompt, accelerator.device), state.step)
    log.append({"step": state.step, "val_dice": result.dice, "val_dice_pooled": result.dice_pooled})
    log.note = f"validation Dice {score:.3f}, best {state.best_dice:.3f}"


class _Log:
    """Losses since the last line, and the files they go to."""

    def __init__(self, accelerator: Accelerator, config: TrainConfig, shards: ShardSet, order: SampleOrder) -> None:
        self.accelerator, self.config, self.shards, self.order = accelerator, config, shards, order
        self.losses: list[Tensor] = []
        self.began = time.monotonic()
        self.waited = 0.0  # seconds for batches
        self.note = ""

    def timing(self, made: Iterator[Examples]) -> Iterator[Examples]:
        """Hand the batches on, noting how long they keep the device waiting."""
        asked = time.monotonic()
        for batch in made:
            self.waited += time.monotonic() - asked
            yield batch
            asked = time.monotonic()

    def add(self, losses: Tensor) -> None:
        self.losses.append(losses)

    def write(self, step: int) -> None:
        """A line of means over the steps since the last one. Raises `KitsamError` where a loss was not finite."""
        if not self.losses:
            return
        losses = self.accelerator.reduce(torch.stack(self.losses), "sum").cpu()
        first = step - len(losses)
        bad = (~losses.isfinite().all(dim=1)).nonzero().flatten()
        if len(bad):
            self._report_nonfinite(first + int(bad[0]))
        mean = losses.mean(dim=0).tolist()
        seconds = time.monotonic() - self.began
        before, after = self.order.counts.drawn_before(first), self.order.counts.drawn_before(step)
        values = dict(zip(("loss", "dice_loss", "cross_entropy"), mean))
        values["learning_rate"] = learning_rate(step - 1, self.config.steps, self.config.optimizer)
        values["slices_per_second"] = round(len(losses) * self.config.batch_size / max(seconds, 1e-9), 2)
        values["waiting_for_data"] = round(self.waited / max(seconds, 1e-9), 4)  # share of the time, of this process
        drawn = {stratum: end - start for stratum, start, end in zip(self.order.strata, before, after)}
        self.append({"step": step, **values, "drawn": drawn})
        self.losses, self.began, self.waited = [], time.monotonic(), 0.0

    def append(self, line: dict[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        path = self.config.out / METRICS
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise KitsamError(f"{path}: cannot be written: {error.strerror}") from error
        scalars = {name: value for name, value in line.items() if name != "step" and isinstance(value, float)}
        self.accelerator.log(scalars, step=line["step"])

    def show(self, pictures: dict[str, np.ndarray], step: int) -> None:
        """(H, W, 3) uint8 pictures, to TensorBoard."""
        tracker = self.accelerator.get_tracker("tensorboard")
        tracker.log_images({name: picture[None] for name, picture in pictures.items()}, step=step, dataformats="NHWC")

    def _report_nonfinite(self, step: int) -> None:
        path = self.config.out / NONFINITE
        if self.accelerator.is_main_process:
            write_json(path, {"step": step, "keys": self.shards.keys(self.order.batch(step))})
        raise KitsamError(f"{self.config.out}: the loss of step {step} is not finite; its samples are listed in {path}")


def _any_process(accelerator: Accelerator, stop: bool) -> bool:
    flag = torch.tensor(float(stop), device=accelerator.device)
    return bool(accelerator.reduce(flag, "sum").item())


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Yield a list that SIGTERM and SIGUSR1 put themselves into, as SLURM sends them before it takes a node back."""
    received: list[int] = []
    caught = (signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in caught}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
