"""What each section of the report gives its template, in the order in which a reader asks for them.

What `metrics.json` does not name, or what cannot be read where it says, becomes a line that says so: a report can
always be written.
"""

import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

from kitsam import __version__
from kitsam.ct.case import CaseFiles, find_cases, read_case
from kitsam.ct.labels import TARGETS
from kitsam.ct.volume import Volume, check_same_shape, read_label
from kitsam.decoding.runs import CONFIG
from kitsam.decoding.training_log import TrainingLog, read_log
from kitsam.evaluation.beside import beside_rows, calibration, froc_curves
from kitsam.evaluation.compare import FIGURE_NOTE
from kitsam.evaluation.lesions import SIZE_NAMES
from kitsam.evaluation.reliability import BINS
from kitsam.evaluation.results import JSON_NAME, Metrics
from kitsam.evaluation.summary import detection_cells, detections, result_rows
from kitsam.pictures import plots
from kitsam.pictures.overlay import OUTLINES
from kitsam.pictures.plots import light_and_dark
from kitsam.report.runs import runs_by_name
from kitsam.report.viewer import Viewer, view
from kitsam.shards import manifest
from kitsam.system.errors import KitsamError
from kitsam.system.records import read_record

PACKAGES = ("torch", "accelerate", "segment-anything", "numpy", "scipy", "nibabel", "matplotlib")
Values = dict[str, Any]  # by their names in a template


def results(metrics: Metrics) -> Values:
    """What the cases come to, beside the paper and another evaluation, and which lesions were found."""
    lesions = [(kind, one, detection_cells(one)) for kind, one in detections(metrics.scores).items()]
    constants = {"figure_note": FIGURE_NOTE, "size_names": SIZE_NAMES}
    return {"rows": result_rows(metrics.scores), "lesions": lesions, **constants}


def beside(metrics: Metrics) -> Values:
    """Figures that the official metrics do not have, and how sure the decoders were of what they labelled."""
    curves, decoders = froc_curves(metrics.scores), calibration(metrics.scores)
    corners = {lesion: list(zip(curve.false_per_case, curve.sensitivity)) for lesion, curve in curves.items()}
    points = {
        target: [point for point in zip(one.probabilities, one.frequencies) if None not in point]
        for target, one in decoders.items()
    }
    return {
        "rows": list(beside_rows(metrics.scores).values()),
        "froc": light_and_dark(plots.free_response, corners) if any(corners.values()) else None,
        "froc_ends": {lesion: some[-1] if some else (0.0, 0.0) for lesion, some in corners.items()},
        "reliability": light_and_dark(plots.reliability_diagram, points) if points else None,
        "errors": {target: one.expected_error for target, one in decoders.items()},
        "bins": BINS,
    }


def cases_to_show(metrics: Metrics) -> Values:
    """The worst, the median and the best case, or why they cannot be seen."""
    data, predictions = (metrics.settings.get(name) for name in ("data", "predictions"))
    no_data = f"{JSON_NAME} names no data set to take the scans from"
    files = _attempt(find_cases, Path(data), "data") if data else no_data
    if isinstance(files, str):
        return {"problem": files}
    ranking = _worst_first(metrics)
    names = [ranking[place] for place in sorted({0, len(ranking) // 2, len(ranking) - 1})]
    viewers = {name: _attempt(_viewer, files.get(name), predictions) for name in names}
    return {"problem": None, "viewers": viewers, "outlines": OUTLINES}


def _viewer(files: CaseFiles | None, predictions: str | None) -> Viewer:
    if files is None:
        raise KitsamError("the data set holds no case of this name")
    case = read_case(files)
    path = Path(predictions or "", f"{files.name}.nii.gz")
    if not predictions or not path.is_file():
        return view(case, None)
    label = read_label(path)
    check_same_shape(path, label, Volume(case.image, case.spacing, case.geometry))
    return view(case, label.voxels)


def all_cases(metrics: Metrics) -> Values:
    """Every case's scores, and how they spread."""
    scores = metrics.scores.values()
    kidney_dice, masses_dice = [case.kidney_and_mass_dice for case in scores], [case.mass_dice for case in scores]
    tumor_dice = [case.tumor_dice for case in scores]
    true, predicted = [case.true_tumor_ml for case in scores], [case.predicted_tumor_ml for case in scores]
    return {
        "ranking": _worst_first(metrics),
        "dice_by_case": light_and_dark(plots.dice_by_case, kidney_dice, masses_dice, tumor_dice),
        "dice_by_tumor_volume": light_and_dark(plots.dice_by_tumor_volume, true, tumor_dice),
        "tumor_volumes": light_and_dark(plots.tumor_volumes, true, predicted),
    }


def training(metrics: Metrics) -> Values:
    """Loss and validation Dice of the decoders, and the balance of the slices that they learned from."""
    runs, shards = runs_by_name(metrics.settings), metrics.settings.get("shards")
    logs = {name: _attempt(read_log, run) for name, run in runs.items()}
    curves = {
        name: light_and_dark(plots.training_curve, log.steps, log.loss, log.validation_steps, log.validation_dice)
        for name, log in logs.items()
        if isinstance(log, TrainingLog)
    }
    absent = [target for target in TARGETS if target not in (metrics.settings.get("runs") or {})]
    shard_set = _attempt(read_record, Path(shards, manifest.NAME), _ShardSet) if shards else None
    return {"runs": runs, "names": [*runs, *absent], "logs": logs, "curves": curves, "shard_set": shard_set}


class _ShardSet(TypedDict):
    """What is read of a shard set's manifest."""

    strata: dict[str, int]  # training slices


def settings(metrics: Metrics) -> Values:
    """What the numbers were made with."""
    paths = {name: run / CONFIG for name, run in runs_by_name(metrics.settings).items()}
    configs = [(name, path, path.read_text("utf-8", "replace")) for name, path in paths.items() if path.is_file()]
    versions = {"kitsam that scored": metrics.kitsam, "kitsam that wrote this": __version__}
    versions |= {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}
    return {"configs": configs, "versions": versions}


def _worst_first(metrics: Metrics) -> list[str]:
    return sorted(metrics.scores, key=lambda name: (metrics.scores[name].summary["Dice"], name))


def _attempt(read: Callable[..., Any], *arguments: Any) -> Any:
    """What is read, or a text that says why it cannot be."""
    try:
        return read(*arguments)
    except KitsamError as error:
        return str(error)


SECTIONS = (results, beside, cases_to_show, all_cases, training, settings)
