"""`kitsam bench processes`: training steps on one process and on several of this machine, and what they wait for.

Several processes on the cores of one machine show what waiting and exchange cost, not what more machines gain.
"""

from rich.table import Table

from kitsam.bench.config import BenchProcessesConfig
from kitsam.bench.measure import write_figures
from kitsam.bench.steps import Times, check_gpus, shard_set, time_steps, training_of
from kitsam.system.console import say

WAITS = ("data", "others", "gradients")  # fields of `Parts`


def run(config: BenchProcessesConfig) -> int:
    check_gpus(config.processes, config.device)
    with shard_set(config.shards, config.work, config.batch_size, config.grid) as folder:
        training = training_of(config, "roi", folder)
        results = {count: _figures(time_steps(training, count), config.steps) for count in config.processes}
    first = results[config.processes[0]]
    table = Table(
        "processes",
        "s a step",
        "slices/s",
        "times",
        "for data",
        "for others",
        "gradients",
        title=f"Training steps of {config.batch_size} slices; shares of the time spent waiting",
    )
    for count, result in results.items():
        table.add_row(
            str(count),
            f"{result['seconds_per_step']:.3f}",
            f"{config.batch_size / result['seconds_per_step']:.2f}",
            f"{first['seconds_per_step'] / result['seconds_per_step']:.2f}",
            *(f"{result[f'waiting_for_{reason}']:.1%}" for reason in WAITS),
        )
    say(table)
    write_figures(config.json, "processes", {"batch_size": config.batch_size, "processes": results})
    return 0


def _figures(times: list[Times], steps: int) -> dict[str, float]:
    total = sum(one.parts.sum for one in times)
    waits = {f"waiting_for_{reason}": sum(getattr(one.parts, reason) for one in times) / total for reason in WAITS}
    return {"seconds_per_step": max(one.together for one in times) / steps, **waits}
