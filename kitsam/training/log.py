"""metrics.jsonl, TensorBoard and Weights & Biases: mean losses since the last line, and the slices behind them.

Losses stay on the device until a line is written.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import WandBTracker
from torch import Tensor

from kitsam.decoding.records import METRICS
from kitsam.shards.order import SampleOrder
from kitsam.shards.reader import ShardSet
from kitsam.system.errors import KitsamError
from kitsam.system.files import write_json, write_text
from kitsam.system.options import as_plain
from kitsam.training.config import TrainConfig
from kitsam.training.questions import Questions
from kitsam.training.schedule import learning_rate

NONFINITE, WANDB_RUN = "nonfinite.json", "wandb_run.txt"


def start_log(accelerator: Accelerator, config: TrainConfig, step: int) -> None:
    """Begin or go on after `step`, on the main process; lines of later steps go, since these will be done again.

    Raises `KitsamError` where the user chose Weights & Biases and it does not answer.
    """
    accelerator.init_trackers("kitsam")
    if config.wandb:
        accelerator.trackers.append(_start_wandb(config))
    path = config.out / METRICS
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    write_text(path, "".join(f"{line}\n" for line in lines if _step_of(line) <= step))


def _start_wandb(config: TrainConfig) -> WandBTracker:
    """The same run of Weights & Biases at every start."""
    from wandb.errors import Error

    name = config.out / WANDB_RUN
    if not name.exists():
        write_text(name, uuid4().hex)
    tracker = WandBTracker(
        "kitsam", id=name.read_text(), resume="allow", name=config.out.name, dir=config.out, config=as_plain(config)
    )
    try:
        tracker.start()
    except Error as error:
        raise KitsamError(f"--wandb: {error}") from error
    return tracker


def _step_of(line: str) -> float:
    """Infinity for a line that a stopped run left unfinished, or that was damaged."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return math.inf


class Log:
    """Losses since the last line, and the files they go to."""

    def __init__(
        self,
        accelerator: Accelerator,
        config: TrainConfig,
        shards: ShardSet,
        order: SampleOrder,
        ends: Sequence[int],  # of the learning rate's schedule
    ) -> None:
        self.accelerator, self.config, self.shards, self.order, self.ends = accelerator, config, shards, order, ends
        self.losses: list[Tensor] = []
        self.began = time.monotonic()
        self.waited = 0.0  # seconds for batches
        self.note = ""

    def timing(self, questions: Iterator[Questions]) -> Iterator[Questions]:
        """Hand the batches on, noting how long they keep this process waiting."""
        began = time.monotonic()
        for batch in questions:
            self.waited += time.monotonic() - began
            yield batch
            began = time.monotonic()

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
        before, after = self.order.counts.samples_before(first), self.order.counts.samples_before(step)
        values = dict(zip(("loss", "dice_loss", "cross_entropy"), mean))
        values["learning_rate"] = learning_rate(step - 1, self.ends, self.config.optimizer)
        values["slices_per_second"] = round(len(losses) * self.config.batch_size / max(seconds, 1e-9), 2)
        slices = {stratum: end - start for stratum, start, end in zip(self.order.strata, before, after)}
        self.append({"step": step, **values, "drawn": slices})
        if self.accelerator.is_main_process:
            # To the trackers alone: lines of metrics.jsonl are the same at every start, but for their speed.
            self.accelerator.log({"waiting_for_data": self.waited / max(seconds, 1e-9)}, step=step)
        self.losses, self.began, self.waited = [], time.monotonic(), 0.0

    def append(self, line: dict[str, Any]) -> None:
        """A line of metrics.jsonl, its numbers to the trackers too, from the main process."""
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
        """(H, W, 3) uint8 pictures, to the trackers."""
        stacks = {name: picture[None] for name, picture in pictures.items()}
        for tracker in self.accelerator.trackers:
            tracker.log_images(stacks, step=step, **({"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}))

    def _report_nonfinite(self, step: int) -> None:
        path = self.config.out / NONFINITE
        if self.accelerator.is_main_process:
            write_json(path, {"step": step, "keys": self.shards.keys(self.order.batch(step))})
        raise KitsamError(f"{self.config.out}: the loss of step {step} is not finite; its samples are listed in {path}")
