"""What a training run wrote, and whether two runs came to the same."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny import SIDE
from torch import Tensor

from kitsam.decoding.detail import DetailNet, DetailNets
from kitsam.sam.decoder import random_decoder
from kitsam.system.seeds import derive
from kitsam.system.tensors import read_tensors, write_tensors
from kitsam.training import log

# Sums in another order make AdamW turn a gradient near zero into a whole step the other way. Few are that near: such
# runs end some 1e-5 of their way apart; those on other samples, or at other rates, a large part of it.
SHARE = 0.01


@contextmanager
def break_at(step: int) -> Iterator[None]:
    """A run in this block is cut short after so many steps, before it writes their line."""
    original = log.learning_rate

    def rate(current: int, *rest) -> float:
        if current == step:
            raise RuntimeError("power cut")
        return original(current, *rest)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        patch.setattr(log, "learning_rate", rate)
        yield


def with_detail(run: Path, out: Path) -> Path:
    """A copy of the run whose decoder has networks for detail beside it, which have not learned anything."""
    shutil.copytree(run, out)
    tensors, header = read_tensors(run / "decoder.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        nets = DetailNets([DetailNet(), DetailNet()])
    tensors.update({f"detail.{name}": tensor for name, tensor in nets.state_dict().items()})
    write_tensors(out / "decoder.safetensors", tensors, header)
    return out


def lines(run: Path) -> list[dict]:
    """Of metrics.jsonl, without what depends on the time."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "slices_per_second"} for line in found]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in lines(run) if "loss" in line]


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "decoder.safetensors")


def same_bits(first: Path, second: Path) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_same_run(run: Path, other: Path) -> None:
    """The same samples in each step, and decoders that went the same way, up to rounding."""
    ours, theirs = lines(run), lines(other)
    assert [line.get("drawn") for line in ours] == [line.get("drawn") for line in theirs]
    start, first, second = _vector(_start(other)), _vector(weights(run)), _vector(weights(other))
    assert (first - second).norm() < SHARE * (second - start).norm()


def _start(run: Path) -> dict[str, Tensor]:
    """A run's first weights, drawn from its seed."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    return random_decoder(SIDE // 16, SIDE, derive(config["seed"], "decoder", config["target"])).state_dict()


def _vector(state: dict[str, Tensor]) -> Tensor:
    return torch.cat([state[name].flatten() for name in sorted(state)])
