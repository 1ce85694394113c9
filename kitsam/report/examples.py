"""The worst, the median and the best case of an evaluation, to leaf through."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kitsam.ct.case import Case, CaseFiles, find_cases, read_case
from kitsam.ct.volume import Volume, check_same_shape, read_label
from kitsam.evaluation.metrics import CaseScores
from kitsam.evaluation.results import Metrics
from kitsam.pictures.overlay import OUTLINES
from kitsam.report.markup import card, heading, legend, paragraph, section
from kitsam.report.viewer import viewer
from kitsam.system.errors import KitsamError


def example_cases(metrics: Metrics) -> str:
    """The worst, the median and the best case as slices with outlines, under a slider."""
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
    ranked = worst_first(scores)
    if len(ranked) == 1:
        return {"Only case": ranked[0]}
    if len(ranked) == 2:
        return {"Worst": ranked[0], "Best": ranked[1]}
    return {"Worst": ranked[0], "Median": ranked[len(ranked) // 2], "Best": ranked[-1]}


def worst_first(scores: Mapping[str, CaseScores]) -> list[str]:
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
    slices = ""
    try:
        if files is None:
            raise KitsamError("the data set holds no case of this name")
        case = read_case(files)
        prediction = _read_prediction(prediction_path, case)
        if prediction is None:
            lines.append("There is no prediction to show.")
        slices = viewer(case, prediction)
    except KitsamError as error:
        lines.append(f"No picture: {error}")
    return card(heading(title), *(paragraph(line, soft=True) for line in lines), slices, kind="case")


def _read_prediction(path: Path | None, case: Case) -> np.ndarray | None:
    if path is None or not path.is_file():
        return None
    prediction = read_label(path)
    check_same_shape(path, prediction, Volume(case.image, case.spacing, case.geometry))
    return prediction.voxels
