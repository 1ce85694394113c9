"""What an experiment has to run: shard sets, trainings and evaluations, each once, however many variants share it.

A job is known by a hash of all that decides its result: its options and the jobs that it needs. Its folder has that
name, so that a changed variant gets new runs beside the old ones and takes over what it has in common with them.
"""

import hashlib
import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import yaml

from kitsam.ct.labels import TARGETS
from kitsam.evaluation.results import JSON_NAME
from kitsam.experiment.recipe import Recipe, Stage
from kitsam.shards.manifest import NAME as MANIFEST
from kitsam.system.files import write_json, write_text
from kitsam.system.options import Options, as_plain
from kitsam.system.records import read_record

# Options that say where and with what, and not what comes of it.
ELSEWHERE = {"data", "out", "shards", *TARGETS, "device", "workers", "cache", "compile", "target", "against"}
ELSEWHERE |= {"mlflow", "dry_run"}
HASH_LETTERS = 8
Part = Literal["embed", "train", "evaluate"]
FOLDERS: dict[Part, str] = {"embed": "sets", "train": "runs", "evaluate": "results"}


@dataclass(frozen=True)
class Job:
    """One command to run."""

    part: Part
    name: str
    options: Options
    needs: tuple[str, ...]  # names of jobs

    @property
    def folder(self) -> Path:
        return self.options.out

    @property
    def has_result(self) -> bool:
        """Whether a command that left something out, which makes its exit code 1, has come to its end."""
        files = {"embed": MANIFEST, "evaluate": JSON_NAME}
        return self.part in files and (self.folder / files[self.part]).is_file()

    def words(self, start: str, file: Path) -> list[str]:
        """The command line, with its options in `file`."""
        words = shlex.split(start)
        program = [sys.executable, *words[1:]] if words[:1] == ["python"] else words
        return [*program, self.part, "--config", str(file)]


class Result(NamedTuple):
    """What a variant is judged by."""

    fold: int | None
    seed: int
    job: str  # name of the evaluation


class Plan(NamedTuple):
    """All jobs, those that others need first, and the evaluations of each variant."""

    jobs: dict[str, Job]
    results: dict[str, list[Result]]


def make_plan(recipe: Recipe, data: Path, out: Path) -> Plan:
    jobs: dict[str, Job] = {}
    results: dict[str, list[Result]] = {}
    folds = [None] if recipe.folds is None else range(recipe.folds)
    for variant, stages in recipe.variants.items():
        results[variant] = []
        for fold in folds:
            for seed in recipe.seeds:
                chain = list(_chain(stages, data, out, recipe.folds, fold, seed))
                jobs.update({job.name: job for job in chain})
                results[variant].append(Result(fold, seed, chain[-1].name))
    order = list(FOLDERS)
    return Plan(dict(sorted(jobs.items(), key=lambda item: order.index(item[1].part))), results)


def _chain(
    stages: dict[str, Stage], data: Path, out: Path, folds: int | None, fold: int | None, seed: int
) -> Iterator[Job]:
    """From the shard set to the evaluation of one fold and seed."""
    embed = _job("embed", replace(stages["embed"].options, data=data, folds=folds), (), out)
    yield embed
    shards = str(embed.folder)
    runs: dict[str, Job] = {}
    for target in TARGETS:
        if target in stages:
            stage = stages[target]
            options = replace(stage.options, shards=shards, fold=fold, seed=seed)
            runs[target] = _job("train", options, (embed.name,), out, target, runs.get(stage.start_from))
            yield runs[target]
    folders = {target: job.folder for target, job in runs.items()}
    options = replace(stages["evaluate"].options, shards=shards, data=data, fold=fold, **folders)
    needs = (embed.name, *(job.name for job in runs.values()))
    yield _job("evaluate", options, needs, out, "evaluate", seed=seed if runs else None)


def _job(
    part: Part,
    options: Options,
    needs: tuple[str, ...],
    out: Path,
    word: str = "set",
    source: Job | None = None,
    seed: int | None = None,
) -> Job:
    """`source`: the run that a training starts from; `seed`: of the runs that an evaluation asks."""
    needs += (source.name,) if source else ()
    causes = {name: value for name, value in as_plain(options).items() if name not in ELSEWHERE}
    text = json.dumps([word, causes, needs], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:HASH_LETTERS]
    fold, seed = (None, None) if part == "embed" else (options.fold, options.seed if part == "train" else seed)
    marks = [f"fold{fold}" if fold is not None else "", f"seed{seed}" if seed is not None else ""]
    name = "-".join(filter(None, [word, digest, *marks]))
    late = {"out": out / FOLDERS[part] / name, **({"start_from": source.folder} if source else {})}
    return Job(part, name, replace(options, **late), needs)


@dataclass(frozen=True)
class Record:
    """What is kept of a job that was started."""

    done: bool
    seconds: float  # over all its starts
    left_out: bool = False  # its exit code was 1, and its result is there: it has left something out


class Book:
    """The folder with each job's options, its record and what it printed."""

    def __init__(self, out: Path) -> None:
        self.folder = out / "jobs"

    def options(self, job: Job) -> Path:
        """Written anew."""
        path = self.folder / f"{job.name}.yaml"
        write_text(path, yaml.safe_dump(as_plain(job.options), sort_keys=False))
        return path

    def log(self, job: Job) -> Path:
        return self.folder / f"{job.name}.log"

    def record(self, name: str) -> Record:
        path = self.folder / f"{name}.json"
        return read_record(path, Record) if path.is_file() else Record(False, 0.0)

    def keep(self, name: str, record: Record) -> None:
        write_json(self.folder / f"{name}.json", asdict(record))
