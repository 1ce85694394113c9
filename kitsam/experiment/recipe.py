"""What an experiment file says: a base recipe, and variants of it that differ in some options.

    folds: 5                              # of the shard sets; without: their one split
    seeds: [0, 1, 2]                      # of the trainings
    figure: Dice                          # that decides; chosen beforehand
    base: paper                           # the variant that others are compared with
    embed: {config: embed.yaml}           # options as of `kitsam embed`; config: a file of them, read first
    roi: {config: roi.yaml}               # of `kitsam train --target roi`
    tumor: {config: tumor.yaml, start_from: roi}   # the run of that target, fold and seed; or a run's folder
    evaluate: {}
    variants:
      paper: {}
      higher rate: {roi: {optimizer: {peak_rate: 1.0e-3}}}
      no tumor decoder: {tumor: null}
      untrained: {roi: null, tumor: null, evaluate: {zero_shot: true}}

`config` is looked for beside the experiment file. Folders, fold, seed and target of a stage are the experiment's own;
what such a file says of them does not count.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from kitsam.ct.labels import TARGETS
from kitsam.embedding.config import EmbedConfig
from kitsam.evaluation.config import EvaluateConfig
from kitsam.evaluation.summary import RESULT_LABELS
from kitsam.system.command_line import read_command_line
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.options import Options
from kitsam.system.plain_yaml import load_yaml
from kitsam.training.config import TrainConfig

STAGES = ("embed", *TARGETS, "evaluate")
FROM_A_RUN = "start_from"
OWN = {
    "embed": ("data", "out", "folds", "dry_run", "processes"),
    **dict.fromkeys(TARGETS, ("target", "shards", "out", "fold", "seed")),
    "evaluate": ("shards", "data", "out", "fold", "against", *TARGETS),
}
KEYS = ("folds", "seeds", "figure", "base", *STAGES, "variants")
Table = Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """One stage of a variant."""

    options: Options  # its folders, fold and seed are still to be filled in
    start_from: str | None = None  # target of the run that a training starts from


@dataclass(frozen=True)
class Recipe:
    """An experiment, checked."""

    folds: int | None
    seeds: tuple[int, ...]
    figure: str  # of RESULT_LABELS
    base: str
    variants: dict[str, dict[str, Stage]]  # by name, then by stage


def read_recipe(path: Path, data: Path, out: Path) -> Recipe:
    """Raises `OptionError` naming the file, and the variant and stage that cannot be."""
    content = _table(path, _read(path), "the file")
    for key in content:
        if key not in KEYS:
            raise OptionError(f"{path}: {key}: no such key (known: {', '.join(KEYS)})")
    variants = _table(path, content.get("variants"), "variants")
    if not variants:
        raise OptionError(f"{path}: variants: there is none")
    base = content.get("base", next(iter(variants)))
    if base not in variants:
        raise OptionError(f"{path}: base: no variant is called {base} (known: {', '.join(variants)})")
    figure = content.get("figure", "Dice")
    if figure not in RESULT_LABELS:
        raise OptionError(f"{path}: figure: must be one of {', '.join(RESULT_LABELS)}, not {figure}")
    folds, seeds = content.get("folds"), content.get("seeds", [0])
    if not (folds is None or (type(folds) is int and folds > 1)):
        raise OptionError(f"{path}: folds: must be a whole number from 2, not {folds}")
    if not (isinstance(seeds, list) and seeds and all(type(seed) is int and seed >= 0 for seed in seeds)):
        raise OptionError(f"{path}: seeds: must be a list of whole numbers from 0, not {seeds}")
    if len(set(seeds)) < len(seeds):
        raise OptionError(f"{path}: seeds: one is there twice: {seeds}")
    common = {stage: _options_in(path, content.get(stage), stage) for stage in STAGES}
    stages = {
        name: _stages(path, str(name), common, _table(path, changes, f"variant {name}"), data, out)
        for name, changes in variants.items()
    }
    return Recipe(folds, tuple(seeds), figure, str(base), {str(name): one for name, one in stages.items()})


def _read(path: Path) -> Any:
    try:
        return load_yaml(path.read_text(encoding="utf-8"))
    except OSError as reason:
        raise OptionError(f"{path}: cannot be read: {reason.strerror}") from reason
    except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as reason:
        raise OptionError(f"{path}: cannot be read as YAML: {' '.join(str(reason).split())}") from reason


def _table(path: Path, value: Any, name: str) -> Table:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise OptionError(f"{path}: {name}: must be a table, not {value}")
    return value


def _options_in(path: Path, value: Any, stage: str, variant: str = "") -> Table | None:
    """The options of a stage, those of its `config` file first. None: the stage is left out."""
    if value is None:
        return None
    name = f"{path}: {f'variant {variant}: ' if variant else ''}{stage}"
    options = dict(_table(path, value, name.removeprefix(f"{path}: ")))
    file = options.pop("config", None)
    for key in options:
        if key in OWN[stage]:
            raise OptionError(f"{name}: {key}: not an option here, the experiment says it")
    if file is None:
        return options
    beside = path.parent / str(file)
    read = _table(beside, _read(beside), "the file")
    if read.get("target", stage) != stage:
        raise OptionError(f"{name}: {beside} is for the {read['target']} decoder")
    # A file that is used by itself too may say where things lie.
    return _merge({key: one for key, one in read.items() if key not in OWN[stage]}, options)


def _merge(first: Table, second: Table) -> Table:
    """The options of both; where both have one, the second's."""
    merged = dict(first)
    for key, value in second.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _stages(
    path: Path, variant: str, common: Mapping[str, Table | None], changes: Table, data: Path, out: Path
) -> dict[str, Stage]:
    for key in changes:
        if key not in STAGES:
            raise OptionError(f"{path}: variant {variant}: {key}: no such stage (known: {', '.join(STAGES)})")
    options = {}
    for stage in STAGES:
        if stage not in changes:
            options[stage] = common[stage]
        elif changes[stage] is None:
            options[stage] = None
        else:
            own = _options_in(path, changes[stage], stage, variant)
            options[stage] = _merge(common[stage] or {}, own)
    options = {"embed": {}, "evaluate": {}} | {stage: one for stage, one in options.items() if one is not None}
    stages = {
        stage: _checked(f"{path}: variant {variant}: {stage}", stage, options[stage], data, out)
        for stage in STAGES
        if stage in options
    }
    for stage, one in stages.items():
        if one.start_from and one.start_from not in stages:
            raise OptionError(f"{path}: variant {variant}: {stage}: start_from: the variant trains no {one.start_from}")
    zero_shot = stages["evaluate"].options.zero_shot
    if zero_shot == ("roi" in stages):
        why = "zero_shot asks no run, so roi must be null" if zero_shot else "roi must be trained"
        raise OptionError(f"{path}: variant {variant}: {why}")
    return stages


def _checked(name: str, stage: str, table: Table, data: Path, out: Path) -> Stage:
    """The stage's options as its command would read them."""
    table = dict(table)
    start_from = None
    if stage in TARGETS and table.get(FROM_A_RUN) in TARGETS:
        start_from = table.pop(FROM_A_RUN)
        if TARGETS.index(start_from) >= TARGETS.index(stage):
            raise OptionError(f"{name}: {FROM_A_RUN}: {start_from} is trained later")
    folders = {"out": str(out)}
    if stage != "embed":
        folders["shards"] = str(out)
    if stage in TARGETS:
        folders["target"] = stage
    else:
        folders["data"] = str(data)
    kind = {"embed": EmbedConfig, "evaluate": EvaluateConfig}.get(stage, TrainConfig)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "options.yaml"
        file.write_text(yaml.safe_dump({**table, **folders}), encoding="utf-8")
        try:
            return Stage(read_command_line("kitsam experiment", kind, ["--config", str(file)]), start_from)
        except KitsamError as error:
            raise OptionError(f"{name}: {error}") from error
