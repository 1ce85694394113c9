"""Thirty faults at random times in two processes of embed, train and evaluate, each followed by the same command.

The outcome must be that of an undisturbed run, byte for byte, or the error must name what is wrong. Slow, so left out
of the usual run; `pytest -m slow tests/launch/test_faults.py -rA` says of each round what the fault did.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from starting import Started, end, files_of, finish, torchrun, train_arguments
from tiny import EMBED_WORDS, embed_config, evaluate_words, train_config, write_cases

from kitsam.embedding import run as embedding
from kitsam.training import loop
from kitsam.training.config import ValidationConfig

pytestmark = pytest.mark.slow
CASES = 8
EMBED = [*EMBED_WORDS, "--val_fraction=0.5", "--shard_samples=8"]
SECONDS_TO_END = 60.0  # in which a fault must end all processes
LATEST = {"embed": 0.35, "train": 2.5, "evaluate": 0.25}  # seconds from the first file to the fault; then most are done
DISK = {"embed": "4m", "train": "400m", "evaluate": "4m"}  # little more than the outcome takes: full at once


class World(NamedTuple):
    """What the stages work on, and what comes of them when nothing disturbs them."""

    data: Path
    shards: Path
    runs: dict[str, Path]
    outcomes: dict[str, dict[str, bytes]]


class Round(NamedTuple):
    stage: str
    fault: str
    chance: random.Random
    folder: Path
    world: World

    @property
    def out(self) -> Path:
        return self.folder / "disk" / "out"

    @property
    def shards(self) -> Path:
        """The set that the stage reads or, embedding, writes."""
        return self.out if self.stage == "embed" else self.folder / "shards"


STAGES = ("embed", "train", "evaluate")
FAULTS = ("one process killed", "all killed", "terminated", "disk full", "shard removed")
ROUNDS = [(number, STAGES[number % 3], FAULTS[number // 3 % 5]) for number in range(30)]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("world")
    data, shards = write_cases(folder / "data", CASES), folder / "shards"
    assert embedding.run(embed_config(data, shards, val_fraction=0.5, shard_samples=8)) == 0
    for target in ("roi", "tumor", "cyst"):
        loop.run(train_config(target, shards, folder / target))
    world = World(
        data, shards, {target: folder / target for target in ("roi", "tumor", "cyst")}, {"embed": files_of(shards)}
    )
    for stage in ("train", "evaluate"):
        finish(command(stage, world, shards, folder / f"{stage}-whole", folder), folder / "log")
        world.outcomes[stage] = outcome(stage, folder / f"{stage}-whole")
    return world


def command(stage: str, world: World, shards: Path, out: Path, folder: Path) -> list[str]:
    if stage == "embed":
        return torchrun(2, "embed", *EMBED, "--data", world.data, "--out", out)
    if stage == "train":
        config = train_config(
            "tumor", shards, out, steps=40, validation=ValidationConfig(every=15), checkpoint_every=4, step_timeout=15
        )
        return torchrun(2, *train_arguments(config, folder))
    return torchrun(2, "evaluate", *evaluate_words(world.data, shards, world.runs), "--out", out)


def has_begun(out: Path) -> bool:
    """Whether there is more than the lock."""
    return out.exists() and any(not path.name.startswith(".") for path in out.iterdir())


def outcome(stage: str, out: Path) -> dict[str, bytes]:
    """The files that must not depend on what happened on the way."""
    files = files_of(out)
    if stage == "train":
        return {"decoder.safetensors": files["decoder.safetensors"]}
    if stage == "evaluate":
        return {
            name: content
            for name, content in files.items()
            if name == "metrics.csv" or name.startswith("predictions/case_")
        }
    return files


@pytest.fixture(params=ROUNDS, ids=[f"{number:02d} {stage}: {fault}" for number, stage, fault in ROUNDS])
def one_round(request, world, tmp_path):
    number, stage, fault = request.param
    this = Round(stage, fault, random.Random(number), tmp_path, world)
    if stage != "embed":
        shutil.copytree(world.shards, this.shards)
    disk = this.out.parent
    disk.mkdir()
    if fault == "disk full":
        if (
            os.geteuid()
            or subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={DISK[stage]}", "none", disk], check=False
            ).returncode
        ):
            pytest.skip("needs root, to mount a small disk")
        request.addfinalizer(lambda: subprocess.run(["umount", disk], check=True))
    return this


def test_a_fault_changes_nothing_once_the_command_was_given_again(one_round):
    line = command(one_round.stage, one_round.world, one_round.shards, one_round.out, one_round.folder)
    with Started(line, one_round.folder / "log") as started:
        started.wait_until(lambda: has_begun(one_round.out))
        time.sleep(one_round.chance.uniform(0, LATEST[one_round.stage]))
        mend = INFLICT[one_round.fault](one_round, started)
        code = started.wait(SECONDS_TO_END)
    print(f"{one_round.stage}, {one_round.fault}: exit code {code}")
    if code and one_round.fault in NAMED:
        assert any(words in started.text for words in NAMED[one_round.fault]), started.text[-4000:]
    mend()
    finish(line, one_round.folder / "again")
    assert outcome(one_round.stage, one_round.out) == one_round.world.outcomes[one_round.stage]


def kill_one(this: Round, started: Started) -> Callable[[], None]:
    ranks = sorted(started.ranks().values())
    if ranks:
        end(this.chance.choice(ranks), signal.SIGKILL)
    return nothing


def kill_all(this: Round, started: Started) -> Callable[[], None]:
    for pid in (started.process.pid, *started.ranks().values()):
        end(pid, signal.SIGKILL)
    return nothing


def terminate(this: Round, started: Started) -> Callable[[], None]:
    started.process.terminate()
    return nothing


def fill_disk(this: Round, started: Started) -> Callable[[], None]:
    filler = this.out.parent / "filler"
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], capture_output=True, check=False)
    return filler.unlink


def remove_shard(this: Round, started: Started) -> Callable[[], None]:
    tars = sorted(this.shards.glob("val/*.tar" if this.stage == "evaluate" else "train/*.tar"))
    if not tars:
        return nothing
    tar = this.chance.choice(tars)
    content = tar.read_bytes()
    tar.unlink()
    if this.stage == "embed":
        return nothing  # it is made again

    def put_back() -> None:
        tar.write_bytes(content)

    return put_back


def nothing() -> None:
    pass


INFLICT = dict(zip(FAULTS, (kill_one, kill_all, terminate, fill_disk, remove_shard)))
NAMED = {"disk full": ("No space left", "free"), "shard removed": (".tar",)}
