"""The parts of the report, in the order in which a reader asks for them. Each function returns HTML.

What `metrics.json` does not name, or what cannot be read where it says, leaves a line that says so: a report can
always be written.
"""

import json
import platform
from collections.abc import Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kitsam import __version__
from kitsam.ct.strata import STRATA
from kitsam.decoding.runs import CONFIG
from kitsam.decoding.training_log import TrainingLog, read_log
from kitsam.evaluation.compare import FIGURE_NOTE, Comparison
from kitsam.evaluation.lesions import SIZE_NAMES
from kitsam.evaluation.results import Metrics
from kitsam.evaluation.summary import PAPER, RESULT_LABELS, detection_cells, detections, result_rows, summarize
from kitsam.pictures import plots
from kitsam.report.examples import worst_first
from kitsam.report.markup import (
    Bar,
    Cell,
    card,
    definitions,
    folded,
    grid,
    paragraph,
    plot,
    section,
    table,
    tile,
    warning,
)
from kitsam.system.errors import KitsamError
from kitsam.system.files import read_json

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
        [
            row.label,
            f"{row.mean:.3f}",
            row.interval_text or "–",
            f"{row.median:.3f}",
            f"{row.lowest:.3f}",
            row.paper_text or "–",
        ]
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
        card(table(["", "mean", "95 %", "median", "lowest", "paper"], rows, rule_after=len(PAPER), cards=True)),
        paragraph("95 %: bootstrap interval of the mean, from drawing the cases again and again.", soft=True),
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


def lesions(metrics: Metrics) -> str:
    """How many were found, by size, and how many are none."""
    title = "Lesions found"
    if not metrics.has_lesions:
        return section(title, paragraph("Not known: an older kitsam wrote metrics.json. Evaluate again.", soft=True))
    rows: list[list[Cell]] = []
    for kind, found in detections(metrics.scores).items():
        share = "–" if found.sensitivity is None else f"{found.sensitivity:.0%}"
        rows.append([kind, *detection_cells(found), share, f"{found.false_per_case:.2f}"])
    note = (
        "A lesion is a 3-D component of its class. It is found when the prediction of that class overlaps it anywhere; a "
        "predicted one is false when it overlaps none. Sizes are diameters of a ball of the same volume."
    )
    head = ["", *SIZE_NAMES, "all", "share", "false a case"]
    return section(title, card(table(head, rows, cards=True)), paragraph(note, soft=True))


def comparison(found: Comparison | None) -> str:
    """Case by case against another evaluation, where `kitsam score --against` made one."""
    if found is None:
        return ""
    rows: list[list[Cell]] = []
    for row in found.rows:
        means = (f"{row.mean:.3f}", f"{row.against:.3f}", f"{row.difference:+.3f}", row.interval_text)
        rows.append([RESULT_LABELS[row.figure], *means, f"{row.p_value:.2g}", f"{row.better} : {row.worse}"])
    note = f"{_count(len(found.cases), 'case')} against {found.against}. {FIGURE_NOTE}."
    head = ["", "here", "there", "difference", "95 %", "p", "better : worse"]
    return section("Comparison", paragraph(note, soft=True), card(table(head, rows, cards=True)))


def all_cases(metrics: Metrics) -> str:
    """Every case's scores, and how they spread."""
    scores = metrics.scores
    spread = [
        plot("Dice per case", partial(plots.dice_by_case, scores), "Each line has its own order of cases."),
        plot("Tumor Dice by tumor size", partial(plots.dice_by_tumor_volume, scores), "One dot a case."),
        plot("Tumor volume", partial(plots.tumor_volumes, scores), "One dot a case; on the line the volume is right."),
    ]
    rows: list[list[Cell]] = []
    for name in worst_first(scores):
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
        path = Path(run) / CONFIG
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
