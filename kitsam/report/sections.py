"""The parts of the report, in the order in which a reader asks for them. Each function returns HTML.

What `metrics.json` does not name, or what cannot be read where it says, leaves a line that says so: a report can
always be written.
"""

import json
import platform
from collections.abc import Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from kitsam import __version__
from kitsam.errors import KitsamError
from kitsam.evaluation.metrics import CaseScores
from kitsam.evaluation.results import Metrics
from kitsam.evaluation.summary import PAPER, RESULT_LABELS, result_rows, summarize
from kitsam.files import read_json
from kitsam.kits.case import (
    Case,
    CaseFiles,
    Volume,
    check_same_shape,
    find_cases,
    read_case,
    read_label,
)
from kitsam.kits.strata import STRATA
from kitsam.report import plots
from kitsam.report.markup import (
    Bar,
    Cell,
    card,
    definitions,
    folded,
    grid,
    heading,
    legend,
    paragraph,
    picture,
    plot,
    section,
    table,
    tile,
    warning,
)
from kitsam.report.overlay import OUTLINES, choose_panels, draw_overlay
from kitsam.report.runs import CONFIG_NAME, TrainingLog, read_log

DECODERS = {"roi": "ROI decoder", "tumor": "tumor decoder", "cyst": "cyst decoder"}
CASE_COLUMNS = {
    "Dice_kidney": "Dice, kidney",
    "Dice_masses": "Dice, masses",
    "Dice_tumor": "Dice, tumor",
    "SD_kidney": "surface, kidney",
    "SD_masses": "surface, masses",
    "SD_tumor": "surface, tumor",
}
PACKAGES = ("torch", "accelerate", "segment-anything", "numpy", "scipy", "nibabel", "matplotlib")


def results(metrics: Metrics) -> str:
    """The summary, beside the paper's."""
    scores = metrics.scores
    tiles = [
        tile(RESULT_LABELS[name], f"{value:.3f}", f"paper {PAPER[name]:.3f}")
        for name, value in summarize(scores).items()
    ]
    rows = [
        [row.label, f"{row.mean:.3f}", f"{row.median:.3f}", f"{row.lowest:.3f}", row.paper_text or "–"]
        for row in result_rows(scores)
    ]
    note = (
        f"Official KiTS23 metrics over {_count(len(scores), 'case')}. The paper's figures are those of TransferSAM on "
        "the test cases of the KiTS23 challenge, which are not public: they are not the cases scored here."
    )
    return section(
        "Results",
        *_warnings(metrics),
        grid("tiles", tiles),
        paragraph(note, soft=True),
        card(table(["", "mean", "median", "lowest", "paper"], rows, rule_after=len(PAPER))),
    )


def _warnings(metrics: Metrics) -> list[str]:
    missing = [name for name, case in metrics.scores.items() if case.missing]
    found = []
    if metrics.skipped:
        reasons = [f"{name}: {reason}" for name, reason in metrics.skipped.items()]
        found.append(warning(f"{_count(len(reasons), 'case')} could not be scored and left out:", reasons))
    if missing:
        found.append(warning(f"{_count(len(missing), 'case')} had no prediction and counted 0: {', '.join(missing)}"))
    return found


def example_cases(metrics: Metrics) -> str:
    """The worst, the median and the best case as slices with outlines."""
    title = "Worst, median and best case"
    data, predictions = (metrics.settings.get(name) for name in ("data", "predictions"))
    if not data:
        return section(
            title, paragraph("No pictures: metrics.json names no data set to take the scans from.", soft=True)
        )
    try:
        files = find_cases(Path(data), "data")
    except KitsamError as error:
        return section(title, paragraph(f"No pictures: {error}", soft=True))
    shown = []
    for place, name in _examples(metrics.scores).items():
        prediction = Path(predictions) / f"{name}.nii.gz" if predictions else None
        shown.append(_example(f"{place}: {name}", metrics.scores[name], files.get(name), prediction))
    return section(title, _outline_legend(), *shown)


def _examples(scores: Mapping[str, CaseScores]) -> dict[str, str]:
    """What a case is shown for -> its name."""
    ranked = _worst_first(scores)
    if len(ranked) == 1:
        return {"Only case": ranked[0]}
    if len(ranked) == 2:
        return {"Worst": ranked[0], "Best": ranked[1]}
    return {"Worst": ranked[0], "Median": ranked[len(ranked) // 2], "Best": ranked[-1]}


def _worst_first(scores: Mapping[str, CaseScores]) -> list[str]:
    return sorted(scores, key=lambda name: (scores[name].summary["Dice"], name))


def _outline_legend() -> str:
    colored = [(name, color, False) for _, name, color in reversed(OUTLINES)]
    return legend([*colored, ("truth", "#ffffff", False), ("prediction", "#ffffff", True)])


def _example(title: str, scores: CaseScores, files: CaseFiles | None, prediction_path: Path | None) -> str:
    figures = (
        f"Dice {scores.summary['Dice']:.3f}: kidney and masses {scores.kidney_and_mass_dice:.3f}, "
        f"masses {scores.mass_dice:.3f}, tumor {scores.tumor_dice:.3f}. "
        f"Tumor {scores.true_tumor_ml:.1f} mL, predicted {scores.predicted_tumor_ml:.1f} mL."
    )
    lines = [figures]
    pictures: list[str] = []
    try:
        if files is None:
            raise KitsamError("the data set holds no case of this name")
        case = read_case(files)
        prediction = _read_prediction(prediction_path, case)
        if prediction is None:
            lines.append("There is no prediction to show.")
        pictures = _pictures(case, prediction)
    except KitsamError as error:
        lines.append(f"No picture: {error}")
    return card(heading(title), *(paragraph(line, soft=True) for line in lines), grid("slices", pictures), kind="case")


def _read_prediction(path: Path | None, case: Case) -> np.ndarray | None:
    if path is None or not path.is_file():
        return None
    prediction = read_label(path)
    check_same_shape(path, prediction, Volume(case.image, case.spacing, case.geometry))
    return prediction.voxels


def _pictures(case: Case, prediction: np.ndarray | None) -> list[str]:
    pictures = []
    for panel in choose_panels(case.image, prediction, case.label, case.spacing):
        png = BytesIO()
        draw_overlay(png, [panel], case.spacing[1:])
        pictures.append(picture(png.getvalue(), f"{case.name}, {panel.caption}", panel.caption))
    return pictures


def all_cases(metrics: Metrics) -> str:
    """Every case's scores, and how they spread."""
    scores = metrics.scores
    spread = [
        plot("Dice per case", partial(plots.dice_by_case, scores), "Each line has its own order of cases."),
        plot("Tumor Dice by tumor size", partial(plots.dice_by_tumor_volume, scores), "One dot a case."),
        plot("Tumor volume", partial(plots.tumor_volumes, scores), "One dot a case; on the line the volume is right."),
    ]
    rows: list[list[Cell]] = []
    for name in _worst_first(scores):
        case = scores[name]
        bars = [Bar(case.columns[column]) for column in CASE_COLUMNS]
        tumor = f"{case.true_tumor_ml:.1f} ({case.predicted_tumor_ml:.1f})"
        cyst = f"{case.true_cyst_ml:.1f} ({case.predicted_cyst_ml:.1f})"
        rows.append([name, *bars, tumor, cyst])
    return section(
        "All cases",
        grid("columns", spread),
        paragraph(
            "Dice and surface Dice (kidney: with its masses), volumes and in brackets predicted ones; worst first.",
            soft=True,
        ),
        card(table(["case", *CASE_COLUMNS.values(), "tumor, mL", "cyst, mL"], rows, cards=True)),
    )


def training(metrics: Metrics) -> str:
    """Loss and validation Dice of the three decoders."""
    logs, gone = _logs(metrics)
    shown = []
    for target, log in logs.items():
        best = (
            "no validation yet" if log.best is None else f"best validation Dice {log.best[1]:.3f} at step {log.best[0]}"
        )
        shown.append(
            plot(DECODERS[target], partial(plots.training_curve, log), f"{int(log.steps.max(initial=0))} steps, {best}")
        )
    return section("Training", grid("columns", shown), *(paragraph(line, soft=True) for line in gone))


def _logs(metrics: Metrics) -> tuple[dict[str, TrainingLog], list[str]]:
    """The runs' logs, and why some are not there."""
    runs = metrics.settings.get("runs") or {}
    if not runs:
        return {}, ["No curves: metrics.json names no training runs."]
    logs, gone = {}, []
    for target, name in DECODERS.items():
        if not runs.get(target):
            gone.append(f"There was no {name}.")
            continue
        try:
            logs[target] = read_log(Path(runs[target]))
        except KitsamError as error:
            gone.append(f"No curve of the {name}: {error}")
    return logs, gone


def strata(metrics: Metrics) -> str:
    """What the training slices hold, and what each decoder was shown of them."""
    title = "Balance of the training slices"
    shards = metrics.settings.get("shards")
    if not shards:
        return section(title, paragraph("Not known: metrics.json names no shard set.", soft=True))
    path = Path(shards) / "manifest.json"
    try:
        counts = {stratum: int(read_json(path)["strata"].get(stratum, 0)) for stratum in STRATA}
    except KitsamError as error:
        return section(title, paragraph(f"Not known: {error}", soft=True))
    except (KeyError, TypeError, ValueError, AttributeError):
        return section(title, paragraph(f"Not known: {path}: no counts of strata", soft=True))
    drawn = {target: log.drawn for target, log in _logs(metrics)[0].items() if log.drawn.total()}
    head = ["stratum", "slices", "share", *(f"drawn for {target if target != 'roi' else 'ROI'}" for target in drawn)]
    rows: list[list[Cell]] = []
    for stratum, count in counts.items():
        shares = [seen[stratum] / seen.total() for seen in drawn.values()]
        rows.append(
            [stratum.replace("_", " and "), f"{count:,}", Bar(count / max(sum(counts.values()), 1)), *map(Bar, shares)]
        )
    note = "Slices of the training cases by what they hold, and the shares in which each decoder was shown them."
    return section(title, paragraph(note, soft=True), card(table(head, rows, cards=True)))


def settings(metrics: Metrics) -> str:
    """How the numbers were made."""
    configs = []
    for target, run in (metrics.settings.get("runs") or {}).items():
        path = Path(run) / CONFIG_NAME
        if path.is_file():
            configs.append(
                folded(f"{DECODERS.get(target, target)}: {path}", path.read_text(encoding="utf-8", errors="replace"))
            )
    versions = {
        "kitsam that scored": metrics.kitsam,
        "kitsam that wrote this": __version__,
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return section(
        "Settings and versions",
        card(definitions(dict(_flattened(metrics.settings))), *configs, kind="case"),
        card(definitions(versions)),
    )


def _flattened(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as `outer.inner` and text."""
    flat = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat += _flattened(value, f"{prefix}{name}.")
        else:
            flat.append((f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)))
    return flat


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
