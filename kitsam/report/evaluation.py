"""What a report knows of one evaluation: its figures, what was scored, by which model and command, and when."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from kitsam.ct.case import CaseFiles, find_cases, find_test_cases
from kitsam.evaluation.compare import Comparison, read_comparison
from kitsam.evaluation.origins import SETTING, Kind, count_origins, is_like_the_papers, origins_text
from kitsam.evaluation.results import JSON_NAME, Metrics, read_metrics
from kitsam.system.errors import KitsamError
from kitsam.system.files import read_json
from kitsam.system.options import as_list

WEIGHTS_DIGITS = 12  # of a SHA-256, in text


@dataclass(frozen=True)
class Evaluation:
    """A folder that `kitsam evaluate` or `kitsam score` wrote, and the data set that it names."""

    folder: Path
    metrics: Metrics
    comparison: Comparison | None
    files: dict[str, CaseFiles]  # of the data set
    data_problem: str | None  # why there are none

    @property
    def settings(self) -> dict[str, Any]:
        return self.metrics.settings

    @cached_property
    def origins(self) -> dict[Kind, int]:
        """As the evaluation found them; of one by an older kitsam, as the data are now."""
        return self.settings.get(SETTING) or count_origins(self.files, self.metrics.scores)

    @property
    def origins_text(self) -> str:
        return origins_text(self.origins)

    @property
    def is_like_the_papers(self) -> bool:
        return is_like_the_papers(self.settings, self.origins)

    @property
    def date(self) -> str:
        """When the figures were written: that is the date of their file, which a copy may have changed."""
        return _text_of(datetime.fromtimestamp((self.folder / JSON_NAME).stat().st_mtime, timezone.utc))

    @property
    def model(self) -> list[str]:
        """What answered, in a few lines."""
        if self.settings.get("command") == "evaluate":
            return [_decoders_text(self.settings), _encoder_text(self.settings)]
        return _predictor_texts(self.settings, self.metrics.scores)

    @property
    def command(self) -> str:
        """The command that wrote the folder, from its settings."""
        return command_text(self.settings, self.folder)


def read_evaluation(folder: Path) -> Evaluation:
    """Raises `KitsamError` where the folder holds no evaluation; its data need not be there any more."""
    metrics = read_metrics(folder)
    data = metrics.settings.get("data")
    files: dict[str, CaseFiles] = {}
    problem = None if data else f"{JSON_NAME} names no data set to take the scans from"
    if data:
        try:
            files = {**find_test_cases(Path(data), "data"), **find_cases(Path(data), "data")}
        except KitsamError as error:
            problem = str(error)
    return Evaluation(folder, metrics, read_comparison(folder), files, problem)


def now_text() -> str:
    return _text_of(datetime.now(timezone.utc))


def _text_of(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _decoders_text(settings: Mapping[str, Any]) -> str:
    if settings.get("zero_shot"):
        return "The decoder of the encoder's own checkpoint, without training, asked with boxes of the truth"
    counts = {target: len(as_list(some)) for target, some in (settings.get("runs") or {}).items()}
    names = [name.replace("roi", "ROI") if count == 1 else f"{count} {name}" for name, count in counts.items()]
    trained = len((settings.get("split") or {}).get("train") or [])
    text = f"Trained decoders: {', '.join(names) or 'none named'}"
    return f"{text}; trained on {trained} cases" if trained else text


def _encoder_text(settings: Mapping[str, Any]) -> str:
    encoder, channels = settings.get("encoder") or {}, (settings.get("input") or {}).get("channels")
    name, size, weights = (encoder.get(key) for key in ("name", "input_size", "weights_sha256"))
    text = f"Encoder {name or 'unknown'}, input {size or 'unknown'}, channels {channels or 'unknown'}"
    known = (
        "random weights, never trained" if name == "tiny" else f"weights {(weights or '')[:WEIGHTS_DIGITS]} (SHA-256)"
    )
    return f"{text}, {known}" if encoder else text


def _predictor_texts(settings: Mapping[str, Any], names: Mapping[str, Any]) -> list[str]:
    """Of label maps, which model they are of, where `kitsam predict` left records beside them."""
    folder = Path(settings.get("predictions") or "")
    models = {_recorded_model(folder / f"{name}.json") for name in names} - {None}
    return sorted(models) or [f"Label maps of {folder}, whose model is not known"]


def _recorded_model(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        return f"{content['model']} (SHA-256 {content['model_sha256'][:WEIGHTS_DIGITS]}), by kitsam {content['kitsam']}"
    except (KitsamError, KeyError, TypeError):
        return None


def command_text(settings: Mapping[str, Any], folder: Path) -> str:
    """As it can be pasted. Options of the cascade are named where they are, whatever the defaults."""
    command = settings.get("command")
    words = ["kitsam", str(command)]
    if command == "score":
        words += [settings["predictions"], "--data", settings["data"], "--out", str(folder)]
        words += ["--only-present"] if settings.get("only_present") else []
    elif command == "evaluate":
        words += ["--shards", settings["shards"], "--data", settings["data"], "--out", str(folder)]
        for target, some in (settings.get("runs") or {}).items():
            paths = as_list(some)
            words += [f"--{target}", paths[0] if len(paths) == 1 else f"[{','.join(paths)}]"]
        words += [f"--{name}" for name in ("zero_shot", "flips") if settings.get(name)]
        words += ["--fold", str(settings["fold"])] if settings.get("fold") is not None else []
    else:
        return "not known"
    words += ["--against", settings["against"]] if settings.get("against") else []
    return shlex.join(words)
