"""Where losses, settings and pictures go besides the run's folder: Weights & Biases, MLflow, through accelerate.

A file in the run's folder keeps the name that the tracker knows the run by, so that each start goes on with the same.
"""

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import numpy as np
from accelerate.tracking import GeneralTracker, MLflowTracker, WandBTracker

from kitsam.system.errors import KitsamError
from kitsam.system.files import write_text
from kitsam.system.options import as_plain
from kitsam.training.config import TrainConfig

PROJECT, WANDB_RUN, MLFLOW_RUN = "kitsam", "wandb_run.txt", "mlflow_run.txt"


def start_trackers(config: TrainConfig) -> list[GeneralTracker]:
    """Those that the user chose, besides TensorBoard. Raises `KitsamError` where one does not answer."""
    chosen = (config.wandb, _start_wandb), (config.mlflow, _start_mlflow)
    return [start(config) for wanted, start in chosen if wanted]


def _start_wandb(config: TrainConfig) -> WandBTracker:
    from wandb.errors import Error

    name = config.out / WANDB_RUN
    if not name.exists():
        write_text(name, uuid4().hex)
    tracker = WandBTracker(
        PROJECT, id=name.read_text(), resume="allow", name=config.out.name, dir=config.out, config=as_plain(config)
    )
    try:
        tracker.start()
    except Error as error:
        raise KitsamError(f"--wandb: {error}") from error
    return tracker


def _start_mlflow(config: TrainConfig) -> MLflowTracker:
    from mlflow.exceptions import MlflowException

    name = config.out / MLFLOW_RUN
    is_new = not name.exists()
    tracker = MLflowTracker(PROJECT, run_id=None if is_new else name.read_text(), run_name=config.out.name)
    try:
        tracker.start()
        if is_new:  # MLflow refuses settings that change
            tracker.store_init_configuration(dict(_flat(as_plain(config))))
    except MlflowException as error:
        raise KitsamError(f"--mlflow: {error}") from error
    if is_new:
        write_text(name, tracker.tracker.info.run_id)
    return tracker


def _flat(options: dict[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{section}{name}.")
        else:
            yield f"{section}{name}", value


def log_pictures(tracker: GeneralTracker, pictures: dict[str, np.ndarray], step: int) -> None:
    """(H, W, 3) uint8 pictures."""
    if tracker.name == "mlflow":
        import mlflow  # accelerate's tracker takes no pictures

        for name, picture in pictures.items():
            key = re.sub(r"[^A-Za-z0-9_\-. ]", "", name)  # all that MLflow takes in it
            mlflow.log_image(picture, key=key, step=step)
        return
    stacks = {name: picture[None] for name, picture in pictures.items()}
    tracker.log_images(stacks, step=step, **({"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}))
