"""`kitsam bench training`: seconds of a training step, part by part.

The parts are measured one after another, with a GPU waited for after each; below them stands what a step takes as
`kitsam train` does it, where a batch is read and copied while the step before is computed (`steps.py`).
"""

from dataclasses import asdict
from statistics import mean

from rich.table import Table

from kitsam.bench.config import BenchTrainingConfig
from kitsam.bench.measure import write_figures
from kitsam.bench.steps import Parts, check_gpus, shard_set, time_steps, training_of
from kitsam.system.console import say

NAMES = {
    "data": "waiting for data",
    "copy": "host to device",
    "others": "waiting for other processes",
    "forward": "forward",
    "backward": "backward",
    "gradients": "gradients' exchange",
    "optimizer": "optimizer",
}


def run(config: BenchTrainingConfig) -> int:
    check_gpus([config.processes], config.device)
    with shard_set(config.shards, config.work, config.batch_size, config.grid) as folder:
        training = training_of(config, config.target, folder)
        times = time_steps(training, config.processes)
    parts = Parts(*(mean(values) / config.steps for values in zip(*(asdict(one.parts).values() for one in times))))
    together = max(one.together for one in times) / config.steps
    waiting = mean(one.data / one.together for one in times)
    table = Table(
        "part",
        "s a step",
        "share",
        title=f"Steps of the {config.target} decoder, {config.batch_size} slices, processes: {config.processes}",
    )
    for part, seconds in asdict(parts).items():
        table.add_row(NAMES[part], f"{seconds:.4f}", f"{seconds / parts.sum:.1%}")
    table.add_row("one after another", f"{parts.sum:.4f}", "100.0%")
    table.add_row("as kitsam train does it", f"{together:.4f}", f"{together / parts.sum:.1%}")
    say(table)
    say(f"{config.batch_size / together:.1f} slices/s, {waiting:.1%} of the time spent waiting for data")
    figures = {
        "target": config.target,
        "batch_size": config.batch_size,
        "processes": config.processes,
        "seconds_per_step": together,
        "waiting_for_data": waiting,
        "parts": asdict(parts),
    }
    write_figures(config.json, "training", figures)
    return 0
