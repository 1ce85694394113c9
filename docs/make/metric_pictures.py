"""`python docs/make/metric_pictures.py` draws the pictures of docs/metrics.md, and prints their numbers.

All scores are computed by kitsam's evaluator, of balls in a volume with voxels of 1 mm; the middle slice is drawn.
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from kitsam.ct.labels import CYST, KIDNEY, TUMOR
from kitsam.evaluation.froc import LesionScores, froc
from kitsam.evaluation.metrics import CaseScores, score_case

FOLDER = Path(__file__).parents[1] / "pictures"
SPACING = (1.0, 1.0, 1.0)
SIDE = 80
MIDDLE = SIDE // 2
TRUTH, PREDICTION = 1, 2  # added up, 3 is both
SHADES = ListedColormap(["#f4f6f7", "#f2b8b5", "#a9c7f5", "#8fcfae"])
CURVE = "#d63a33"
TISSUES = ListedColormap(["#f4f6f7", "#9adccb", "#f08a83", "#f4d575"])


def ball(row: float, column: float, radius: float, plane: float = MIDDLE) -> np.ndarray:
    z, y, x = np.indices((SIDE, SIDE, SIDE))
    return (z - plane) ** 2 + (y - row) ** 2 + (x - column) ** 2 < radius**2


def anatomy() -> np.ndarray:
    """A kidney with a tumor at its edge and a cyst."""
    labels = np.zeros((SIDE, SIDE, SIDE), np.uint8)
    labels[ball(MIDDLE, MIDDLE, 26)] = KIDNEY
    labels[ball(26, 26, 12)] = TUMOR
    labels[ball(54, 52, 8)] = CYST
    return labels


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By what is shown: the true and the predicted tumor."""
    large, small = ball(MIDDLE, MIDDLE, 24), ball(MIDDLE, MIDDLE, 5)
    return {
        "large, 1 mm aside": (large, ball(MIDDLE, MIDDLE + 1, 24)),
        "small, 1 mm aside": (small, ball(MIDDLE, MIDDLE + 1, 5)),
        "large, 2 mm too wide": (large, ball(MIDDLE, MIDDLE, 26)),
        "large, a part missing": (large, large & ~ball(MIDDLE, MIDDLE + 28, 16)),
    }


def scores() -> dict[str, CaseScores]:
    """Of each pair, as tumors."""
    return {name: score_case(*(mask * np.uint8(TUMOR) for mask in pair), SPACING) for name, pair in pairs().items()}


def lesion_maps() -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction with two tumors found, one missed, one false."""
    truth = ball(24, 22, 11) | ball(56, 24, 6) | ball(24, 58, 5)
    prediction = ball(26, 25, 8) | ball(60, 28, 5) | ball(58, 58, 6)
    return truth * np.uint8(TUMOR), prediction * np.uint8(TUMOR)


def draw_groups() -> Figure:
    labels = anatomy()[MIDDLE]
    groups = {
        "labels of a slice": labels,
        "kidney and masses": np.where(labels > 0, KIDNEY, 0),
        "masses": np.where(np.isin(labels, (TUMOR, CYST)), TUMOR, 0),
        "tumor": np.where(labels == TUMOR, TUMOR, 0),
    }
    figure = Figure((9, 2.6), layout="constrained")
    for axes, (name, part) in zip(figure.subplots(1, len(groups)), groups.items()):
        _show(axes, part, TISSUES)
        _name(axes, name)
    return figure


def draw_scores() -> Figure:
    figure = Figure((9, 2.9), layout="constrained")
    found = scores()
    for axes, (name, pair) in zip(figure.subplots(1, len(found)), pairs().items()):
        _shade(axes, *pair)
        one = found[name]
        _name(axes, f"{name}\nDice {one.tumor_dice:.2f}, surface Dice {one.tumor_surface_dice:.2f}")
    return figure


def draw_lesions() -> Figure:
    truth, prediction = lesion_maps()
    figure = Figure((3.6, 3.4), layout="constrained")
    axes = figure.subplots()
    _shade(axes, truth > 0, prediction > 0)
    for column, row, word in ((22, 40, "found"), (25, 69, "found"), (58, 34, "missed"), (58, 69, "false")):
        axes.text(column, row, word, ha="center", va="center", fontsize=9)
    _name(axes, "lesions")
    return figure


def draw_free_response() -> Figure:
    """Of made-up scores."""
    curve = froc([LesionScores([0.95, 0.7], [0.4]), LesionScores([0.8], [0.6, 0.3]), LesionScores([0.5], [])], true=5)
    figure, axes = _chart("false lesions a case", "share of lesions found")
    axes.step([0, *curve.false_per_case], [0, *curve.sensitivity], where="post", color=CURVE)
    axes.plot(curve.false_per_case[-1], curve.sensitivity[-1], "o", color=CURVE)
    return figure


def draw_calibration() -> Figure:
    """Of a made-up decoder that is surer than it should be."""
    figure, axes = _chart("probability", "how often it was so")
    probabilities = np.linspace(0.05, 0.95, 10)
    axes.plot([0, 1], [0, 1], color="#99a1a8", linewidth=1)
    axes.plot(probabilities, probabilities**1.5, "o-", color=CURVE)
    return figure


def _chart(across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure((4.2, 3), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=across, ylabel=up, ylim=(0, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e3e7ea")
    return figure, axes


def _shade(axes: Axes, truth: np.ndarray, prediction: np.ndarray) -> None:
    """Red: of the truth alone, blue: of the prediction alone, green: of both."""
    _show(axes, truth[MIDDLE] * TRUTH + prediction[MIDDLE] * PREDICTION, SHADES)


def _show(axes: Axes, values: np.ndarray, colors: ListedColormap) -> None:
    """As many pixels as there are voxels, in the file too."""
    axes.imshow(values, colors, vmin=0, vmax=colors.N - 1, interpolation="none")


def _name(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=8.5)
    axes.set_axis_off()


def draw_all(folder: Path) -> None:
    figures = {
        "groups": draw_groups(),
        "scores": draw_scores(),
        "lesions": draw_lesions(),
        "froc": draw_free_response(),
        "calibration": draw_calibration(),
    }
    with matplotlib.rc_context({"svg.hashsalt": "kitsam", "svg.fonttype": "none", "font.family": "sans-serif"}):
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    draw_all(FOLDER)
    for name, one in scores().items():
        print(f"{name}: Dice {one.tumor_dice:.2f}, surface Dice {one.tumor_surface_dice:.2f}")
    print(score_case(*lesion_maps(), SPACING).tumors)
