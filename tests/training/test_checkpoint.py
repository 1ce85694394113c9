"""A checkpoint's files on the disk: who may read them, when they are there for good, which is the last."""

import os
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from kitsam.training.checkpoint import Progress, checkpoints, save_checkpoint


def save(out: Path, step: int, keep: int = 2) -> Path:
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(2, 2)
    accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    save_checkpoint(accelerator, out, Progress(step), keep)
    return checkpoints(out)[-1]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002], ids="{:03o}".format)
def test_every_file_of_a_checkpoint_has_the_mode_of_a_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        folder = save(tmp_path, 1)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert "model.safetensors" in modes and set(modes.values()) == {0o666 & ~umask}


def test_a_checkpoint_gets_its_name_when_it_is_on_the_disk(tmp_path, monkeypatch):
    flushed, events = os.fsync, []

    def fsync(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        flushed(descriptor)

    renamed = Path.rename
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", lambda path, new: events.append("renamed") or renamed(path, new))
    folder = save(tmp_path, 1)
    before, after = events[: events.index("renamed")], events[events.index("renamed") + 1 :]
    assert {path.name for path in folder.iterdir()} <= set(before)
    assert before[-1] == ".tmp-0-step-000001" and after == ["checkpoints"]


def test_the_last_checkpoint_is_that_of_the_highest_step(tmp_path):
    (tmp_path / "checkpoints" / "step-000001.old").mkdir(parents=True)
    for step in (999_999, 1_000_000, 1_000_001):
        assert save(tmp_path, step).name == f"step-{step}"
    assert [path.name for path in checkpoints(tmp_path)] == ["step-1000000", "step-1000001"]
