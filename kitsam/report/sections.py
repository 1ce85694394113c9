"""What each section of the report gives its template, in the order in which a reader asks for them.

What `metrics.json` does not name, or what cannot be read where it says, becomes a line that says so: a report can
always be written.
"""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from kitsam import __version__
from kitsam.decoding.runs import CONFIG
from kitsam.evaluation.beside import beside_rows, calibration, froc_curves
from kitsam.evaluation.compare import FIGURE_NOTE
from kitsam.evaluation.lesions import SIZE_NAMES
from kitsam.evaluation.reliability import BINS
from kitsam.evaluation.results import Metrics
from kitsam.evaluation.summary import detection_cells, detections, result_rows
from kitsam.pictures import plots
from kitsam.pictures.charts import KIDNEY, TUMOR
from kitsam.pictures.overlay import OUTLINES
from kitsam.report.cases import CasePart
from kitsam.report.evaluation import Evaluation
from kitsam.report.failures import what_failed
from kitsam.report.runs import runs_by_name
from kitsam.report.training import how_trained

PACKAGES = ("torch", "accelerate", "segment-anything", "numpy", "scipy", "nibabel", "matplotlib")
PLACES = {1: ["Only case"], 2: ["Worst", "Best"], 3: ["Worst", "Median", "Best"]}
Values = dict[str, Any]  # by their names in a template


@dataclass(frozen=True)
class Report:
    """What the sections are made of."""

    evaluation: Evaluation
    cases: Mapping[str, CasePart]
    links: Mapping[str, str]  # where each case is to be seen, if it is

    @property
    def metrics(self) -> Metrics:
        return self.evaluation.metrics


def worst_first(metrics: Metrics) -> list[str]:
    return sorted(metrics.scores, key=lambda name: (metrics.scores[name].summary["Dice"], name))


def shown_cases(metrics: Metrics) -> dict[str, str]:
    """The worst, the median and the best case, and which is which."""
    ranking = worst_first(metrics)
    names = [ranking[place] for place in sorted({0, len(ranking) // 2, len(ranking) - 1})]
    return dict(zip(names, PLACES[len(names)]))


def results(report: Report) -> Values:
    """What the cases come to, beside the paper and another evaluation, and which lesions were found."""
    scores = report.metrics.scores
    lesions = [(kind, one, detection_cells(one)) for kind, one in detections(scores).items()]
    constants = {"figure_note": FIGURE_NOTE, "size_names": SIZE_NAMES}
    return {"rows": result_rows(scores, report.evaluation.is_like_the_papers), "lesions": lesions, **constants}


def failures(report: Report) -> Values:
    """Cases left out or without a prediction, lesions missed and lesions invented."""
    return what_failed(report.metrics)


def beside(report: Report) -> Values:
    """Figures that the official metrics do not have, and how sure the decoders were of what they labelled."""
    scores = report.metrics.scores
    curves, decoders = froc_curves(scores), calibration(scores)
    corners = {lesion: list(zip(curve.false_per_case, curve.sensitivity)) for lesion, curve in curves.items()}
    points = {
        target: [point for point in zip(one.probabilities, one.frequencies) if None not in point]
        for target, one in decoders.items()
    }
    return {
        "rows": list(beside_rows(scores).values()),
        "froc": plots.free_response(corners) if any(corners.values()) else None,
        "froc_ends": {lesion: some[-1] if some else (0.0, 0.0) for lesion, some in corners.items()},
        "reliability": plots.reliability_diagram(points) if points else None,
        "errors": {target: one.expected_error for target, one in decoders.items()},
        "bins": BINS,
    }


def cases_to_show(report: Report) -> Values:
    """Cases to leaf through: the worst, the median and the best, or in a single file all of them, the worst first."""
    places = shown_cases(report.metrics)
    inside = {name: part for name, part in report.cases.items() if part.html or (name in places and part.problem)}
    return {"problem": report.evaluation.data_problem, "inside": inside, "places": places, "outlines": OUTLINES}


def all_cases(report: Report) -> Values:
    """Every case's scores, and how they spread."""
    scores = report.metrics.scores
    names, cases = list(scores), list(scores.values())
    tumor_dice = [case.tumor_dice for case in cases]
    tumor = [case.true_tumor_ml for case in cases], [case.predicted_tumor_ml for case in cases]
    whole = [
        [getattr(case, f"{side}_{kind}_ml") for case in cases for kind in ("kidney", "tumor", "cyst")]
        for side in ("true", "predicted")
    ]
    kidneys = [[sum(side[place : place + 3]) for place in range(0, len(side), 3)] for side in whole]
    return {
        "ranking": worst_first(report.metrics),
        "dice_by_case": plots.dice_by_case(
            [case.kidney_and_mass_dice for case in cases], [case.mass_dice for case in cases], tumor_dice
        ),
        "dice_by_tumor_volume": plots.dice_by_tumor_volume(names, tumor[0], tumor_dice),
        "volumes": {
            "Tumor": (plots.volume_differences(names, *tumor, "tumor", TUMOR), _agreement(*tumor)),
            "Kidney and masses": (plots.volume_differences(names, *kidneys, "kidney", KIDNEY), _agreement(*kidneys)),
        },
    }


def _agreement(true: list[float], predicted: list[float]) -> str:
    """The mean difference and the limits of agreement, in words."""
    middle, limits = plots.limits_of_agreement([two - one for one, two in zip(true, predicted)])
    text = f"mean difference {middle:+.1f} mL"
    return text if limits is None else f"{text}, 95 % limits {limits[0]:+.1f} to {limits[1]:+.1f} mL"


def training(report: Report) -> Values:
    """The decoders' curves, and the slices that they were to see and saw."""
    return how_trained(report.metrics)


def settings(report: Report) -> Values:
    """What the numbers were made with."""
    paths = {name: run / CONFIG for name, run in runs_by_name(report.metrics.settings).items()}
    configs = [(name, path, path.read_text("utf-8", "replace")) for name, path in paths.items() if path.is_file()]
    versions = {"kitsam that scored": report.metrics.kitsam, "kitsam that wrote this": __version__}
    versions |= {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}
    return {"configs": configs, "versions": versions}


# By the titles in the table of contents.
SECTIONS: dict[str, Callable[[Report], Values]] = {
    "Results": results,
    "What went wrong": failures,
    "Beside the official metrics": beside,
    "Cases to look at": cases_to_show,
    "All cases": all_cases,
    "Training": training,
    "Settings and versions": settings,
}
