"""What two processes make of kitsam's commands, one after another, so that many tests share the seconds of a start."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from starting import free_port, started_ranks, train_arguments
from tiny import EMBED_WORDS, evaluate_words, still_config, train_config


class Pair(NamedTuple):
    """What the two wrote."""

    folder: Path

    @property
    def shards(self) -> Path:
        return self.folder / "set"

    @property
    def run(self) -> Path:
        """Of the tumor decoder."""
        return self.folder / "run"

    @property
    def continued_run(self) -> Path:
        """The same, begun by one process."""
        return self.folder / "continued"

    @property
    def still_run(self) -> Path:
        """A step at rate 0 from the ROI decoder, then validation."""
        return self.folder / "still"

    @property
    def results(self) -> Path:
        return self.folder / "results"


def run_pair(data: Path, shards: Path, runs: dict[str, Path], pair: Pair) -> None:
    trainings = (
        train_config("tumor", shards, pair.run),
        train_config("tumor", shards, pair.continued_run),
        still_config(shards, runs, pair.still_run),
    )
    lines = [
        ["embed", *EMBED_WORDS, "--data", data, "--out", pair.shards],
        ["evaluate", *evaluate_words(data, shards, runs), "--out", pair.results],
        *(train_arguments(config, pair.folder) for config in trainings),
    ]
    run_in_two_processes(lines, pair.folder)


def run_in_two_processes(lines: list[list], folder: Path) -> None:
    """Each line: the words behind `kitsam`. All must end well."""
    script = folder / "lines.json"
    script.write_text(json.dumps([[free_port(), *map(str, line)] for line in lines]))
    command = [sys.executable, Path(__file__).with_name("commands.py"), script]
    # Sums come out alike to the last bit only with the same number of threads.
    with started_ranks(command, folder, OMP_NUM_THREADS=torch.get_num_threads()) as ranks:
        for one in ranks:
            assert one.wait() == 0, one.text[-3000:]
