"""Stage 2: shards -> batches -> one decoder.

Accelerate owns processes, precision, gradient synchronization, trackers and checkpoints (`setup.py`). The batches and the learning
rate are functions of the step and are never handed to it, so that any number of processes sees the same samples and a run goes on
from a checkpoint as if it had never stopped. A batch counts slices; a slice may hold several boxes, and losses are
normalized by the boxes of the global batch.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

import torch
from accelerate import Accelerator

from kitsam.ct.strata import negative_ratio, strata_for
from kitsam.decoding.ask import TargetDecoder
from kitsam.decoding.runs import DECODER
from kitsam.shards.order import SampleOrder
from kitsam.shards.reader import ShardSet
from kitsam.system.compiling import compile_where_it_pays
from kitsam.system.console import progress, say
from kitsam.system.processes import START_LIMIT, collective_timeout, report_lost_peer, set_collective_timeout
from kitsam.training.checkpoint import Progress, load_last_checkpoint, open_run, save_checkpoint, save_decoder
from kitsam.training.config import TrainConfig
from kitsam.training.log import Log, start_log
from kitsam.training.pictures import validation_pictures
from kitsam.training.setup import initial_decoder, make_accelerator, prepare, questions_of_steps
from kitsam.training.step import train_step, trial_step
from kitsam.training.validation import validate

# Behind the first, a validation may keep the other processes waiting so many times as long as the one before took.
SLOWER_VALIDATION, LEAST_VALIDATION = 4, timedelta(minutes=5)


def run(config: TrainConfig) -> int:
    with report_lost_peer():
        train(config)
    return 0


def train(config: TrainConfig) -> bool:
    """Train to the end, or on from the last checkpoint. Returns whether a signal stopped it before."""
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
        say(
            f"The run is finished: step {state.step}, best Dice {state.best_dice:.4f} at step {state.best_step}: {config.out / DECODER}"
        )
        return False
    steps = config.steps - state.step
    compile_where_it_pays(
        decoder, config.compile, accelerator.device, lambda: trial_step(accelerator, decoder, config), steps
    )
    if accelerator.is_main_process:
        start_log(accelerator, config, state.step)
    _announce(config, shards, state)
    stopped = _train(accelerator, model, optimizer, shards, order, config, state)
    accelerator.end_training()
    if stopped:
        say(f"Stopped by a signal after step {state.step}, all saved: the same command goes on from there")
    else:
        say(f"Best validation Dice {state.best_dice:.4f} at step {state.best_step}: {config.out / DECODER}")
    return stopped


def _announce(config: TrainConfig, shards: ShardSet, state: Progress) -> None:
    ratio = negative_ratio(shards.manifest.voxels, config.target)
    say(
        f"{config.target}: {ratio:.1f} negative voxels per positive one; positive pixels weigh {ratio**config.loss.balance:.2f}"
    )
    if state.step:
        say(f"Going on after step {state.step}")


def _train(
    accelerator: Accelerator,
    model,
    optimizer,
    shards: ShardSet,
    order: SampleOrder,
    config: TrainConfig,
    state: Progress,
) -> bool:
    """Train from `state` to the end, which it keeps up to date. Returns whether a signal stopped it."""
    positive_weight = negative_ratio(shards.manifest.voxels, config.target) ** config.loss.balance
    log = Log(accelerator, config, shards, order)
    in_step, in_validation = timedelta(seconds=config.step_timeout), START_LIMIT
    made = questions_of_steps(accelerator, shards, order, config, range(state.step, config.steps))
    with (
        _stop_signals() as stop,
        progress(f"Training {config.target}", config.steps, "steps", state.step) as tick,
        closing(made),
    ):
        for step, batch in enumerate(log.timing(made), state.step):
            losses = train_step(accelerator, model, optimizer, batch, step, positive_weight, config)
            set_collective_timeout(in_step)
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
                began = time.monotonic()
                with collective_timeout(in_validation, in_step):
                    _validate(accelerator, model, shards, config, state, log)
                in_validation = max(LEAST_VALIDATION, SLOWER_VALIDATION * timedelta(seconds=time.monotonic() - began))
                state.finished = last or (config.validation.patience > 0 and state.stale >= config.validation.patience)
            if saving or stopped:
                log.write(state.step)
                save_checkpoint(accelerator, config.out, state, config.keep_checkpoints)
            tick(1, log.note)
            if stopped or state.finished:
                return stopped and not state.finished
    return False


def _validate(accelerator, model, shards: ShardSet, config: TrainConfig, state: Progress, log: Log) -> None:
    decoder = accelerator.unwrap_model(model)
    target_decoder = TargetDecoder(decoder, config.prompt)
    rank, ranks = accelerator.process_index, accelerator.num_processes
    result = validate(target_decoder, shards, config.target, accelerator.device, rank, ranks)
    score = getattr(result, config.validation.select)
    if score > state.best_dice:
        state.best_dice, state.best_step, state.stale = score, state.step, 0
        if accelerator.is_main_process:
            save_decoder(config.out, decoder)
    else:
        state.stale += 1
    if accelerator.is_main_process:
        log.show(validation_pictures(target_decoder, shards, config.target, accelerator.device), state.step)
    log.append({"step": state.step, "val_dice": result.dice, "val_dice_pooled": result.dice_pooled})
    log.note = f"validation Dice {score:.3f}, best {state.best_dice:.3f}"


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
