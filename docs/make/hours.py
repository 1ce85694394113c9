"""`python docs/make/hours.py` prints the hours of docs/reproduction.md, from the times of `kitsam bench scale`."""

from kitsam.bench.config import BenchScaleConfig
from kitsam.bench.costs import costs_of
from kitsam.bench.scale import (
    DECODERS,
    STEPS,
    VALIDATIONS,
    embed_rate,
    evaluate_rate,
    read_sizes,
    train_rate,
    work_of,
)

DEVICES = (1, 8, 64)
VIEWS = 2  # of configs/embed.yaml and configs/paper/embed.yaml


def rows() -> list[str]:
    """Of each stage, as the page has them: hours on each number of GPUs."""
    costs, work = costs_of(BenchScaleConfig()), work_of(read_sizes(None), VIEWS)
    validation = sum(work.val) * (costs.answer.value + costs.read.value)
    stages = {
        "embed": [embed_rate(costs, work, count).seconds for count in DEVICES],
        "train, three decoders one after the other": [
            DECODERS * STEPS * train_rate(costs, work, count).seconds for count in DEVICES
        ],
        "validate in training": [DECODERS * VALIDATIONS * validation / count for count in DEVICES],
        "evaluate": [evaluate_rate(costs, work, count).seconds for count in DEVICES],
    }
    stages["together"] = [sum(column) for column in zip(*stages.values())]
    return [f"| {name} | {' | '.join(f'{value / 3600:.3f}' for value in row)} |" for name, row in stages.items()]


if __name__ == "__main__":
    print("\n".join(rows()))
