"""Files of every kind, damaged at random: each command refuses them in one line, or gives the undamaged answer.

A damage is a flipped bit, a cut tail, a stretch of zeros, or bytes at the end. What a command may not do: end in a
traceback, hang, or take what differs for what was written. Files that a person writes (splits, boxes, a config) may
hold another sense after a damage; there only a traceback is wrong. Sixty damages are struck by default, five hundred by
`pytest -m slow`.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny import embed_config, train_config

from kitsam.cli import main
from kitsam.inference import bundle
from kitsam.inference.config import BundleConfig, CascadeConfig
from kitsam.system.options import as_plain

FEW, MANY = 60, 500


@pytest.fixture(scope="module")
def whole(data, shards, runs, tmp_path_factory) -> Path:
    """All files of a small project, undamaged, and the answers of the commands below."""
    folder = tmp_path_factory.mktemp("damage") / "whole"
    shutil.copytree(data, folder / "data")
    shutil.copytree(shards, folder / "set")
    for target, run in runs.items():
        shutil.copytree(run, folder / target)
    cascade = CascadeConfig(roi_threshold=0.3, lesion_threshold=0.3, smallest_roi=0.0)
    assert bundle.run(BundleConfig(folder / "roi", folder / "model.safetensors", folder / "tumor", None, cascade)) == 0
    shutil.copy(folder / "data" / "case_00000" / "imaging.nii.gz", folder / "scan.nii.gz")
    (folder / "boxes.json").write_text(json.dumps({"scan": [[2, 10, 10, 7, 50, 50]]}))
    names = [f"case_{number:05d}" for number in range(4)]
    (folder / "splits.json").write_text(json.dumps({"train": names[:3], "val": names[3:], "seed": 0}))
    # A run that was stopped at step 4 of 6.
    shutil.copytree(folder / "roi", folder / "stopped")
    shutil.rmtree(folder / "stopped" / "checkpoints" / "step-000006")
    for name, config in (
        ("train.yaml", train_config("roi", Path("set"), Path("stopped"))),
        ("embed.yaml", embed_config(Path("data"), Path("new"))),
    ):
        (folder / name).write_text(yaml.safe_dump({k: v for k, v in as_plain(config).items() if v is not None}))
    return folder


@dataclass(frozen=True)
class Use:
    """Files of one kind, the command that reads them, and what its answer is."""

    kind: str
    files: str  # pattern below the folder
    command: list[str]
    answer: Callable[[Path], object]
    exact: bool = True  # whether an accepted file must give the undamaged answer


def losses(folder: Path) -> list[object]:
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines if "loss" in json.loads(line)]


def files_in(name: str) -> Callable[[Path], object]:
    return lambda folder: {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / name).rglob("*.*"))
        if path.is_file()
    }


def scores(folder: Path) -> bytes:
    return (folder / "out" / "metrics.csv").read_bytes()


def labels(folder: Path) -> bytes:
    return (folder / "out" / "scan.nii.gz").read_bytes()


TRAIN = ["train", "--target", "tumor", "--shards", "set", "--out", "run", "--steps", "2", "--batch_size", "4",
         "--log_every", "1", "--validation.every", "2", "--optimizer.warmup_steps", "1", "--device", "cpu"]  # fmt: skip
EVALUATE = ["evaluate", "--shards", "set", "--data", "data", "--roi", "roi", "--tumor", "tumor", "--out", "out",
            "--workers", "1", "--device", "cpu"]  # fmt: skip
PREDICT = ["predict", "scan.nii.gz", "--model", "model.safetensors", "--out", "out", "--device", "cpu"]
EMBED = ["embed", "--config", "embed.yaml", "--data", "data", "--out", "set", "--device", "cpu"]
RESUME = ["train", "--config", "train.yaml", "--shards", "set", "--out", "stopped", "--device", "cpu"]


def decoder_bytes(folder: Path) -> bytes:
    return (folder / "stopped" / "decoder.safetensors").read_bytes()


USES = [
    Use("manifest", "set/manifest.json", TRAIN, losses),
    Use("plan", "set/plan.json", EMBED, files_in("set")),
    Use("unit", "set/units/*.json", EMBED, files_in("set")),
    Use("index", "set/train/*.json", TRAIN, losses),
    Use("shard", "set/train/tumor*.tar", TRAIN, losses),
    Use("validation shard", "set/val/*.tar", EVALUATE, scores),
    Use("validation index", "set/val/*.json", EVALUATE, scores),
    Use("decoder", "tumor/decoder.safetensors", EVALUATE, scores),
    Use("run's set", "roi/shard_set.json", EVALUATE, scores),
    Use("run's config", "roi/config.yaml", EVALUATE, scores),
    Use("bundle", "model.safetensors", PREDICT, labels),
    Use("scan", "scan.nii.gz", PREDICT, labels),
    Use("label", "data/case_0000*/segmentation.nii.gz", EVALUATE, scores),
    Use("checkpoint", "stopped/checkpoints/step-000004/*", RESUME, decoder_bytes),
    Use("stopped run's set", "stopped/shard_set.json", RESUME, decoder_bytes),
    Use("stopped run's config", "stopped/config.yaml", RESUME, decoder_bytes),
    Use("log", "stopped/metrics.jsonl", RESUME, decoder_bytes),
    Use("boxes", "boxes.json", [*PREDICT, "--boxes", "boxes.json"], labels, exact=False),
    Use(
        "splits", "splits.json", ["embed", "--config", "embed.yaml", "--splits", "splits.json", "--dry-run"], str, False
    ),
    Use("config", "embed.yaml", ["embed", "--config", "embed.yaml", "--dry-run"], str, False),
]


def strike(data: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(len(data)))
    match rng.integers(4):
        case 0:
            return data[:place] + bytes([data[place] ^ 1 << int(rng.integers(8))]) + data[place + 1 :]
        case 1:
            return data[:place]
        case 2:
            length = int(rng.integers(1, 64))
            return data[:place] + bytes(len(data[place : place + length])) + data[place + length :]
        case _:
            return data + rng.bytes(int(rng.integers(1, 64)))


@pytest.fixture(scope="module")
def answers(whole, tmp_path_factory) -> dict[str, object]:
    """Of each command on undamaged files."""
    answers = {}
    for use in USES:
        folder = shutil.copytree(whole, tmp_path_factory.mktemp("answer") / "x")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            assert main(use.command) == 0, use.kind
            answers[use.kind] = use.answer(folder) if use.exact else None
        shutil.rmtree(folder)
    return answers


def check(number: int, whole: Path, answers: dict[str, object], folder: Path, capsys) -> None:
    """Damage number `number`; what a command may not do with it is an assertion."""
    rng = np.random.default_rng([number, 20])
    use = USES[number % len(USES)]
    shutil.copytree(whole, folder)
    paths = sorted(folder.glob(use.files))
    path = paths[int(rng.integers(len(paths)))]
    before = path.read_bytes()
    after = strike(before, rng)
    path.write_bytes(after)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        capsys.readouterr()
        code = main(use.command)  # an exception that escapes is the test's failure
        err = capsys.readouterr().err
    what = f"damage {number} of {path.relative_to(folder)} ({use.kind}): exit {code}: {err[-300:]}"
    if code == 0 and use.exact and after != before:
        assert use.answer(folder) == answers[use.kind], what
    if code not in (0, 1):
        assert code == 2, what
    if code == 2:
        assert err.splitlines()[-1].startswith("kitsam "), what


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(4))
def test_a_damaged_file_is_refused_in_a_line_or_changes_nothing(part, whole, answers, tmp_path, capsys):
    for number in range(part, FEW, 4):
        check(number, whole, answers, tmp_path / str(number), capsys)
        shutil.rmtree(tmp_path / str(number))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_five_hundred_damaged_files(whole, answers, tmp_path, capsys):
    for number in range(FEW, MANY):
        check(number, whole, answers, tmp_path / str(number), capsys)
        shutil.rmtree(tmp_path / str(number))
