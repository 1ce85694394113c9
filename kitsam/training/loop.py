"""Stage 2: shards -> batches -> one decoder.

Accelerate owns processes, precision, gradient synchronization, trackers and checkpoints (`setup.py`). The batches and
the learning rate are functions of the step and are never handed to it, so that any number of processes sees the same
samples and a run goes on from a checkpoint as if it had never stopped. A batch counts slices; a slice may hold several
boxes, and losses are normalized by the boxes of the global batch.
"""

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch
from accelerate import Accelerator

from kitsam.ct.strata import negative_ratio
from kitsam.decoding.ask import TargetDecoder
from kitsam.decoding.records import DECODER, METRICS
from kitsam.decoding.runs import write_decoder
from kitsam.system.compiling import compile_where_it_pays
from kitsam.system.console import progress, say, warn
from kitsam.system.coordination import decide, sole_writers, together
from kitsam.system.head import say_head
from kitsam.system.processes import START_LIMIT, report_lost_peer
from kitsam.system.watch import Watch
from kitsam.training.checkpoint import (
    LastCheckpoint,
    Progress,
    last_checkpoint,
    load_checkpoint,
    open_run,
    save_checkpoint,
)
from kitsam.training.config import TrainConfig
from kitsam.training.dry_run import print_forecast
from kitsam.training.log import Log, start_log
from kitsam.training.pictures import validation_pictures
from kitsam.training.schedule import learning_rate
from kitsam.training.setup import Training, set_up, target_words
from kitsam.training.step import train_step, trial_step
from kitsam.training.transfer import on_device
from kitsam.training.validation import can_validate, validate

UNKNOWN = Progress.best_dice  # the Dice of a decoder that was never measured
POOR = 0.05  # Dice below which something is likely to be wrong


def run(config: TrainConfig) -> int:
    with report_lost_peer():
        if config.dry_run:
            print_forecast(config)
        else:
            train(config)
    return 0


def train(config: TrainConfig) -> bool:
    """Train to the end, or on from the last checkpoint. Returns whether a signal stopped it before."""
    training = set_up(config)
    with sole_writers(config.out):
        return _go_on(training)


def _go_on(training: Training) -> bool:
    """The same, in a folder to which no other run writes."""
    config, accelerator = training.config, training.accelerator
    (folder, state), ends = decide(lambda: _open(training))
    if folder:
        together(lambda: load_checkpoint(accelerator, folder))
    if state.finished:
        say(f"The run is finished, step {state.step}. {_outcome(state, config)}")
        return False
    compile_where_it_pays(
        training.decoder,
        config.compile,
        accelerator.device,
        lambda: trial_step(accelerator, training.decoder, config),
        config.steps - state.step,
    )
    manifest = training.shards.manifest
    samples = sum(shard.samples for shard in manifest.train)
    data = f"{config.shards}, {samples} slices of {len(manifest.split.train)} cases, {len(manifest.val)} for validation"
    say_head("train", config, data, accelerator.device, config.precision)
    decide(lambda: start_log(accelerator, config, state.step))
    _announce(training, state)
    stopped = _train(training, state, ends)
    accelerator.end_training()
    if stopped:
        say(f"Stopped by a signal after step {state.step}, all saved: the same command goes on from there")
    else:
        say(_outcome(state, config))
    return stopped


def _open(training: Training) -> tuple[LastCheckpoint, tuple[int, ...]]:
    """Where the run goes on, and the ends of its schedule."""
    schedule = open_run(training.config, training.record.shard_set)
    return last_checkpoint(training.config.out, schedule), schedule.ends


def _outcome(state: Progress, config: TrainConfig) -> str:
    """Which decoder was kept, and what is known of it."""
    path = config.out / DECODER
    if state.best_dice == UNKNOWN:
        return f"Nothing is known of the decoder of step {state.best_step}, the last, {_no_dice(config)}: {path}"
    found = "" if state.best_dice else ", it finds nothing in the validation cases"
    outcome = f"Best validation Dice {state.best_dice:.4f} at step {state.best_step}{found}: {path}"
    return f"{outcome}\n{_advice(state, config)}" if state.best_dice < POOR else outcome


def _advice(state: Progress, config: TrainConfig) -> str:
    """What to look at where a decoder finds next to nothing."""
    start = "" if config.target == "roi" else ", or let it start from the ROI decoder (--start-from)"
    return (
        f"That is next to nothing. The pictures (tensorboard --logdir {config.out}): is the organ in the window, does "
        "the outline lie on it? The data (kitsam fingerprint DATA): are the labels 1 kidney, 2 tumor, 3 cyst, is it "
        f"HU? The loss ({METRICS}): if it still falls, train on (--steps above {state.step}){start}; if it never fell, "
        "try another --optimizer.peak-rate."
    )


def _no_dice(config: TrainConfig) -> str:
    return f"since no validation case holds {target_words(config.target)}"


def _announce(training: Training, state: Progress) -> None:
    config = training.config
    ratio = negative_ratio(training.shards.manifest.voxels, config.target)
    weight = ratio**config.loss.balance
    say(f"{config.target}: {ratio:.1f} negative voxels per positive one; positive pixels weigh {weight:.2f}")
    if training.accelerator.is_main_process:
        _warn_of_data(training)
    if state.step:
        say(f"Going on after step {state.step}")


def _warn_of_data(training: Training) -> None:
    """Say what the shard set lacks of what the run wants."""
    config = training.config
    shares = {} if config.quotas == "natural" else config.quotas
    absent = [stratum for stratum, share in shares.items() if share and stratum not in training.order.strata]
    if absent:
        warn(f"--quotas: no training slice of {', '.join(absent)}: the batches hold more of the others")
    if not can_validate(training.shards, config.target):
        warn(f"there is no validation Dice, {_no_dice(config)}: the last decoder will be kept")


def _train(training: Training, state: Progress, ends: tuple[int, ...]) -> bool:
    """Train from `state`, kept up to date, to the end. Returns whether a signal stopped it before."""
    config, accelerator = training.config, training.accelerator
    positive_weight = negative_ratio(training.shards.manifest.voxels, config.target) ** config.loss.balance
    log = Log(accelerator, config, training.shards, training.order, ends)
    questions = on_device(training.questions(range(state.step, config.steps)), accelerator.device)
    step_limit = timedelta(seconds=config.step_timeout)
    validation_limit = START_LIMIT  # of the first, in which torch may compile
    with (
        _stop_signals() as signals,
        Watch("kitsam train", START_LIMIT) as watch,
        progress(f"Training {config.target}", config.steps, "steps", state.step) as tick,
        closing(questions),
    ):
        for step, batch in enumerate(log.timing(watch.waiting_for(questions)), state.step):
            rate = learning_rate(step, ends, config.optimizer)
            losses = train_step(accelerator, training.model, training.optimizer, batch, rate, positive_weight, config)
            state.step = step + 1
            watch.beat()
            watch.limit = step_limit
            log.add(losses)
            due = _due(state.step, config, ends)
            if due.line:
                log.write(state.step)
            stop = _any_process(accelerator, bool(signals)) if due.line else _this_process_alone(accelerator, signals)
            if due.validation:
                watch.limit, validation_limit = validation_limit, step_limit
                _validate(training, state, log, watch)
                patience = config.validation.patience
                state.finished = state.step == config.steps or 0 < patience <= state.stale
            if due.checkpoint or stop:
                log.write(state.step)
                with watch.waiting():
                    save_checkpoint(accelerator, config.out, state, config.keep_checkpoints)
            tick(1, log.note)
            if stop or state.finished:
                return stop and not state.finished
    return False


class _Due(NamedTuple):
    """What comes after a step."""

    validation: bool
    checkpoint: bool
    line: bool  # of metrics.jsonl


def _due(step: int, config: TrainConfig, ends: tuple[int, ...]) -> _Due:
    validation = step in ends or step % config.validation.every == 0
    checkpoint = validation or step % config.checkpoint_every == 0
    return _Due(validation, checkpoint, checkpoint or step % config.log_every == 0)


def _validate(training: Training, state: Progress, log: Log, watch: Watch) -> None:
    config, accelerator = training.config, training.accelerator
    decoder = TargetDecoder(training.decoder, config.prompt)
    result = validate(accelerator, decoder, training.kidneys, config.target, config.workers, watch)
    score = result.score(config.validation.select)
    keep = _note_score(state, score)
    if accelerator.is_main_process:
        with watch.waiting():
            if keep:
                write_decoder(config.out, training.decoder, training.record, training.detail)
            log.show(validation_pictures(accelerator, decoder, training.kidneys, config.target), state.step)
    log.append({"step": state.step, "val_dice": result.dice, "val_dice_pooled": result.dice_pooled})
    log.dice = "no validation Dice" if score is None else f"validation Dice {score:.3f}, best {state.best_dice:.3f}"


def _note_score(state: Progress, score: float | None) -> bool:
    """Whether the decoder is to be kept: a better one, and of those of which nothing good is known the last."""
    better = score is None or score > state.best_dice
    state.stale = 0 if better else state.stale + 1
    keep = better or score == state.best_dice == 0
    if keep:
        state.best_dice, state.best_step = UNKNOWN if score is None else score, state.step
    return keep


def _this_process_alone(accelerator: Accelerator, signals: list[int]) -> bool:
    """Whether a signal came; several processes ask one another only when a line is due, which costs them a message."""
    return bool(signals) and accelerator.num_processes == 1


def _any_process(accelerator: Accelerator, stop: bool) -> bool:
    flag = torch.tensor(float(stop), device=accelerator.device)
    return bool(accelerator.reduce(flag, "sum").item())


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Yield a list that SIGTERM and SIGUSR1 put themselves into, as SLURM sends them before it takes a node back."""
    signals: list[int] = []
    # Windows has no SIGUSR1.
    numbers = (signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))
    before = {number: signal.signal(number, lambda number, frame: signals.append(number)) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
