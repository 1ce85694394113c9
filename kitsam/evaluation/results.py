"""The files that an evaluation ends in: `metrics.csv`, as the official evaluator writes it, and `metrics.json`.

The CSV has the official columns, one row a case and the average last. The JSON says more: intervals, volumes, lesions,
the figures of `beside.py`, what was left out, the settings that it was made with, and which groups of classes no case
has, if any. Older files without intervals, lesions and those figures are read as well.
"""

import csv
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kitsam import __version__
from kitsam.evaluation.answers import Answers
from kitsam.evaluation.beside import beside_entries
from kitsam.evaluation.lesions import SIZE_LIMITS_CM, Detection, Lesions
from kitsam.evaluation.metrics import COLUMNS, CaseScores, volumes_ml
from kitsam.evaluation.summary import absent_groups, averages, detections, intervals, summarize
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import complete_or_absent, read_json, write_json
from kitsam.system.records import as_record

FORMAT_VERSION = 1
CSV_NAME, JSON_NAME = "metrics.csv", "metrics.json"


@dataclass(frozen=True)
class Metrics:
    """What `metrics.json` holds."""

    kitsam: str  # version that scored
    scores: dict[str, CaseScores]
    skipped: dict[str, str]  # case -> why it could not be scored
    settings: dict[str, Any]
    has_lesions: bool = True  # older files do not tell of them


def write_metrics(
    out: Path, scores: Mapping[str, CaseScores], settings: dict[str, Any], skipped: dict[str, str]
) -> None:
    """Raises `KitsamError` when no case was scored: there is nothing to average."""
    if not scores:
        raise KitsamError("no case could be scored: " + "; ".join(skipped.values() or ["there was none"]))
    scores = {name: scores[name] for name in sorted(scores)}
    average = averages(scores)
    with complete_or_absent(out / CSV_NAME) as temporary:
        _write_csv(temporary, scores, average)
    content = {
        "format": FORMAT_VERSION,
        "kitsam": __version__,
        "summary": summarize(scores),
        "average": average,
        "intervals_95": intervals(scores),
        **({"absent_groups": absent} if (absent := absent_groups(scores)) else {}),
        "lesions": {kind: _detection_entry(lesions) for kind, lesions in detections(scores).items()},
        **beside_entries(scores),
        "cases": [_case_entry(name, case) for name, case in scores.items()],
        "skipped": skipped,
        "settings": settings,
    }
    write_json(out / JSON_NAME, content)


def _write_csv(path: Path, scores: Mapping[str, CaseScores], average: dict[str, float]) -> None:
    # A name that no encoding has letters for is kept escaped.
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["caseID", *COLUMNS])
        for name, case in scores.items():
            writer.writerow([name, *case.columns.values()])
        writer.writerow(["average", *average.values()])


def _detection_entry(lesions: Detection) -> dict[str, Any]:
    shares = {"sensitivity": lesions.sensitivity, "false_per_case": lesions.false_per_case}
    return {
        "size_limits_cm": SIZE_LIMITS_CM,
        "found": lesions.found,
        "missed": lesions.missed,
        "false": lesions.false,
        **shares,
    }


def _case_entry(name: str, case: CaseScores) -> dict[str, Any]:
    lesions = {f"{kind}_ml": asdict(getattr(case, kind)) for kind in ("tumors", "cysts")}
    entry = {"case": name, **case.columns, "Dice_cyst": case.cyst_dice}
    entry |= {"volumes_ml": volumes_ml(case), **lesions, "missing": case.missing}
    return entry if case.answers is None else {**entry, "answers": asdict(case.answers)}


def read_metrics(folder: Path) -> Metrics:
    """Raises `OptionError` naming the file when it is missing, `KitsamError` when it is no such file of this format."""
    path = folder / JSON_NAME
    if not path.is_file():
        raise OptionError(f"{path}: no such file: run `kitsam evaluate` or `kitsam score` first")
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT_VERSION:
        raise KitsamError(f"{path}: not a metrics file of format {FORMAT_VERSION}")
    file = as_record(content, _MetricsFile, path)
    if not file.cases:
        raise KitsamError(f"{path}: holds no case")
    scores = {entry.case: entry.scores for entry in file.cases}
    return Metrics(file.kitsam, scores, file.skipped, file.settings, has_lesions="lesions" in content)


@dataclass(frozen=True)
class _Volumes:
    """mL of each class."""

    kidney: float
    tumor: float
    cyst: float


@dataclass(frozen=True)
class _CaseEntry:
    """A case in `metrics.json`; older files tell nothing of what has a default."""

    case: str
    Dice_kidney: float
    Dice_masses: float
    Dice_tumor: float
    SD_kidney: float
    SD_masses: float
    SD_tumor: float
    volumes_ml: dict[Literal["true", "predicted"], _Volumes]
    tumors_ml: Lesions = field(default_factory=Lesions)
    cysts_ml: Lesions = field(default_factory=Lesions)
    missing: bool = False
    Dice_cyst: float | None = None
    answers: Answers | None = None

    @property
    def scores(self) -> CaseScores:
        columns = (getattr(self, column) for column in COLUMNS)
        volumes = (ml for side in ("true", "predicted") for ml in astuple(self.volumes_ml[side]))
        lesions = self.missing, self.tumors_ml, self.cysts_ml
        return CaseScores(*columns, *volumes, *lesions, self.Dice_cyst, self.answers)


@dataclass(frozen=True)
class _MetricsFile:
    """What is read of `metrics.json`."""

    kitsam: str
    cases: list[_CaseEntry]
    skipped: dict[str, str]
    settings: dict[str, Any]


def read_csv(path: Path) -> dict[str, dict[str, float]]:
    """The six scores of each case, by the names in COLUMNS, from an official file; without its average.

    Raises `KitsamError` naming the file.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["caseID"] != "average"]
        return {row["caseID"]: {column: float(row[column]) for column in COLUMNS} for row in rows}
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise KitsamError(f"{path}: not the official evaluator's CSV: {error!r}") from error
