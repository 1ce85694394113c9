"""Tiny real objects, made once: cases on disk, a shard set, three short runs.

Tests compute on the CPU, so that they need no GPU, let alone one for each process; `pytest --device cuda` has those
that take `device` compute on a GPU.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    # Before torch is imported: the workers share the cores, and so do the processes that tests start.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ["OMP_NUM_THREADS"] = str(max(1, cores // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))

import pytest
import torch
from accelerate.state import AcceleratorState
from filelock import FileLock
from pair import Pair, run_pair
from tiny import embed_config, long_config, train_config, write_cases
from trained import break_at

from kitsam.ct.labels import TARGETS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cpu", "cuda"), default="cpu", help="what the tests of arithmetic compute on")


@pytest.fixture
def device(request) -> Iterator[torch.device]:
    """What `--device` names."""
    chosen = torch.device(request.config.getoption("--device"))
    if chosen.type == "cpu":
        yield chosen
        return
    if not torch.cuda.is_available():
        pytest.skip("--device cuda: torch sees no GPU")
    # Accelerate keeps to the device that it met first in a process.
    AcceleratorState._reset_state(reset_partial_state=True)
    yield chosen
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """A function: name, maker -> a folder that the worker that needs it first makes for all. Not to be changed."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def make_once(name: str, make: Callable[[Path], None]) -> Path:
        made, complete = folder / f"once-{name}", folder / f"once-{name}.complete"
        with FileLock(folder / f"once-{name}.lock"):
            if not complete.exists():
                shutil.rmtree(made, ignore_errors=True)  # what a worker left that failed
                made.mkdir()
                make(made)
                complete.touch()
        return made

    return make_once


@pytest.fixture(scope="session")
def data(once) -> Path:
    """Five cases in the KiTS layout."""
    return once("data", write_cases)


@pytest.fixture(scope="session")
def shards(data, once) -> Path:
    """Their embeddings by the tiny encoder, two cases for validation."""
    from kitsam.embedding import run as embedding

    def embed(folder: Path) -> None:
        assert embedding.run(embed_config(data, folder / "set")) == 0

    return once("shards", embed) / "set"


@pytest.fixture(scope="session")
def runs(shards, once) -> dict[str, Path]:
    """A short run of each decoder."""
    from kitsam.training import loop

    def train(folder: Path) -> None:
        for target in TARGETS:
            assert loop.run(train_config(target, shards, folder / target)) == 0

    folder = once("runs", train)
    return {target: folder / target for target in TARGETS}


@pytest.fixture(scope="session")
def long_run(shards, once) -> Path:
    """A run of the tumor decoder by `long_config` that nothing disturbed."""
    from kitsam.training import loop

    return once("long", lambda folder: loop.run(long_config(shards, folder / "run"))) / "run"


@pytest.fixture(scope="session")
def pair(data, shards, runs, once) -> Pair:
    """What two processes make of the same commands."""
    from kitsam.training import loop

    def work(folder: Path) -> None:
        with break_at(3):
            loop.run(train_config("tumor", shards, Pair(folder).continued_run))
        run_pair(data, shards, runs, Pair(folder))

    return Pair(once("pair", work))
