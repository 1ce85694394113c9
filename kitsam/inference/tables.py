"""What was found in all scans of a folder: volumes.csv for a spreadsheet, predictions.json for a program.

Both are made anew from the records beside the label maps (`predictions.py`), so that they are complete whoever
labelled which scan when, and the same for one process and several. A scan's time is that of its record's file.
"""

import csv
import io
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from kitsam.ct.labels import CLASS_NAMES
from kitsam.inference.color_table import write_color_table
from kitsam.inference.predictions import PredictionRecord
from kitsam.system.console import say
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import write_json, write_text
from kitsam.system.seals import read_sealed

CSV_NAME, JSON_NAME = "volumes.csv", "predictions.json"
# `number`: empty for all of a class, else of one kidney or lesion.
COLUMNS = (
    "scan", "class", "number", "volume_ml", "largest_diameter_mm", "side", "first_slice", "last_slice", "model",
    "model_sha256", "kitsam", "time", "warnings",
)  # fmt: skip
DECIMALS = 3  # of mL and mm


def table_paths(out: Path) -> list[Path]:
    return [out / name for name in (CSV_NAME, JSON_NAME)]


def check_tables(out: Path) -> None:
    """Raises `OptionError` where a file has the name of a table and is none."""
    volumes, predictions = table_paths(out)
    if volumes.exists() and not _starts_with(volumes, ",".join(COLUMNS[:4])):
        raise OptionError(f"--out: {volumes} was not written by `kitsam predict`: kept; choose another folder")
    if predictions.exists() and not _starts_with(predictions, '{\n "scans": '):
        raise OptionError(f"--out: {predictions} was not written by `kitsam predict`: kept; choose another folder")


def _starts_with(path: Path, text: str) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(len(text)) == text
    except (OSError, UnicodeDecodeError):
        return False


def write_tables(out: Path) -> None:
    """Of all finished predictions in a folder; nothing where there are none."""
    records = dict(_records(out))
    if not records:
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, record in records.items():
        writer.writerows(_rows(name, record, _time_of(out / f"{name}.json")))
    volumes, predictions = table_paths(out)
    write_text(volumes, text.getvalue())
    entries = {name: {**record.as_json(), "time": _time_of(out / f"{name}.json")} for name, record in records.items()}
    write_json(predictions, {"scans": entries})
    write_color_table(out)
    say(f"{len(records)} scan{'s' * (len(records) > 1)}: {volumes}, {predictions}")


def _records(out: Path) -> Iterator[tuple[str, PredictionRecord]]:
    """By name, of scans whose files are all written."""
    for path in sorted(out.glob("*.json")):
        if path.name == JSON_NAME or path.name.startswith("."):
            continue
        try:
            record = read_sealed(path, PredictionRecord)
        except KitsamError:
            continue  # somebody else's
        if record.volumes_ml is not None and (out / f"{path.stem}.nii.gz").is_file():
            yield path.stem, record


def _rows(name: str, record: PredictionRecord, time: str) -> Iterator[list[Any]]:
    """All of a class, then its parts one by one."""
    end = [record.model, record.model_sha256, record.kitsam, time, "; ".join([*record.doubts, *record.warnings])]
    for kind in CLASS_NAMES[1:]:
        parts = [one for one in (*record.kidneys, *record.lesions) if one.kind == kind]
        slices = [f(z for one in parts for z in (one.first_slice, one.last_slice)) for f in (min, max)] if parts else []
        widest = round(max(one.diameter_mm for one in parts), DECIMALS) if parts else ""
        yield [name, kind, "", round(record.volumes_ml[kind], DECIMALS), widest, "", *(slices or ["", ""]), *end]
        for one in parts:
            numbers = round(one.volume_ml, DECIMALS), round(one.diameter_mm, DECIMALS)
            yield [name, kind, one.number, *numbers, one.side, one.first_slice, one.last_slice, *end]


def _time_of(path: Path) -> str:
    """UTC, ISO 8601."""
    return datetime.fromtimestamp(int(path.stat().st_mtime), timezone.utc).isoformat()
