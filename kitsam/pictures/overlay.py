"""CT slices with the outlines of truth and prediction.

Outlines instead of filled areas, so that the tissue they claim to follow stays in sight; both at once, so that they
need not be compared from memory: the truth solid, the prediction dashed. The slices shown are those that tell most:
where tumor, kidney, cyst and disagreement are largest. Pixels keep the proportions that the spacing gives them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke

from kitsam.ct.labels import CLASS_NAMES, TARGET_CLASSES
from kitsam.system.files import complete_or_absent

WINDOW = (-160.0, 240.0)  # HU
MOST_PANELS = 4
NEAREST_SHARE = 0.1  # slices closer than this share of the labeled range show much the same
MARGIN_MM = 25.0  # of tissue around the labels
PANEL_INCHES = 3.6  # the longer side of the largest panel
CAPTION_INCHES, LEGEND_INCHES = 2.5, 5.2  # what these need at least
DOTS_PER_INCH = 120

LineStyle = str | tuple[int, tuple[float, float]]

# The classes of each outline, with its name and color.
OUTLINES = (
    (TARGET_CLASSES["roi"], "kidney with masses", "#2fd6b5"),
    (TARGET_CLASSES["cyst"], "cyst", "#ffd23f"),
    (TARGET_CLASSES["tumor"], "tumor", "#ff5f57"),
)


@dataclass(frozen=True)
class Panel:
    """One slice to draw."""

    image: np.ndarray  # (H, W) HU
    prediction: np.ndarray | None  # (H, W) labels
    truth: np.ndarray | None  # (H, W) labels
    caption: str


def case_overlay(
    path: Path,
    image: np.ndarray,  # (S, H, W) HU
    prediction: np.ndarray,  # (S, H, W) labels
    truth: np.ndarray | None,
    spacing: tuple[float, float, float],  # mm between slices, rows, columns
    title: str,
) -> None:
    """A PNG of the slices that tell most about a case."""
    panels = choose_panels(image, prediction, truth, spacing)
    with complete_or_absent(path) as temporary:
        draw_overlay(temporary, panels, spacing[1:], title)


def choose_panels(
    image: np.ndarray,  # (S, H, W)
    prediction: np.ndarray | None,  # (S, H, W)
    truth: np.ndarray | None,  # (S, H, W)
    spacing: tuple[float, float, float],
) -> list[Panel]:
    """Up to four slices from head to feet, all cropped to the same box around the labels on them."""
    chosen = choose_slices(prediction, truth, len(image))
    volumes = [volume for volume in (prediction, truth) if volume is not None]
    labeled = np.any([volume[z] > 0 for z in chosen for volume in volumes], axis=0)
    rows, columns = crop(labeled, spacing[1:])
    panels = []
    for z in sorted(chosen):
        parts = [None if volume is None else volume[z, rows, columns] for volume in (prediction, truth)]
        panels.append(Panel(image[z, rows, columns], parts[0], parts[1], f"slice {z + 1} of {len(image)}: {chosen[z]}"))
    return panels


def choose_slices(prediction: np.ndarray | None, truth: np.ndarray | None, count: int) -> dict[int, str]:
    """Slice -> what it is shown for."""
    areas = [_areas(volume) for volume in (truth, prediction) if volume is not None]
    labeled = np.flatnonzero(sum(areas)[:, 0])
    if not len(labeled):
        return {count // 2: "nothing found, the middle one"}
    nearest = max(NEAREST_SHARE * (labeled[-1] - labeled[0]), 1)
    chosen: dict[int, str] = {}
    for z, reason in _candidates(areas, prediction, truth):
        if len(chosen) < MOST_PANELS and all(abs(z - other) >= nearest for other in chosen):
            chosen[z] = reason
    return chosen


def _areas(volume: np.ndarray) -> np.ndarray:
    """(S, 3) pixels inside each of OUTLINES."""
    counts = np.stack([np.bincount(labels.ravel(), minlength=len(CLASS_NAMES)) for labels in volume])
    return np.stack([counts[:, list(classes)].sum(axis=1) for classes, _, _ in OUTLINES], axis=1)


def is_in(labels: np.ndarray, classes: tuple[int, ...]) -> np.ndarray:
    """Labels of any shape -> bool of the same shape; several times faster than `np.isin`."""
    table = np.zeros(len(CLASS_NAMES), bool)
    table[list(classes)] = True
    return table[labels]


def _candidates(
    areas: list[np.ndarray], prediction: np.ndarray | None, truth: np.ndarray | None
) -> Iterator[tuple[int, str]]:
    """Slices worth showing, the most telling first. `areas`: of the truth, if there is one, then of the prediction."""
    for outline, what in ((2, "tumor"), (1, "cyst"), (0, "kidney")):
        for area, whose in zip(areas, ("", " predicted")):
            if area[:, outline].any():
                yield int(area[:, outline].argmax()), f"most {what}{whose}"
                break
    if prediction is not None and truth is not None:
        yield int((prediction != truth).sum(axis=(1, 2)).argmax()), "most disagreement"
    labeled = np.flatnonzero(areas[0][:, 0])
    if len(labeled):
        yield int(labeled[len(labeled) // 4]), "upper part"
        yield int(labeled[3 * len(labeled) // 4]), "lower part"


def crop(labeled: np.ndarray, spacing: tuple[float, float]) -> tuple[slice, slice]:
    """The box around the labeled pixels with some tissue around; the whole slice where there are none."""
    if not labeled.any():
        return slice(None), slice(None)
    box = []
    for axis, step in enumerate(spacing):
        filled = np.flatnonzero(labeled.any(axis=1 - axis))
        margin = round(MARGIN_MM / step)
        box.append(slice(max(int(filled[0]) - margin, 0), int(filled[-1]) + margin + 1))
    return box[0], box[1]


def draw_overlay(
    target: Path | BinaryIO,
    panels: Sequence[Panel],
    spacing: tuple[float, float],  # mm between rows, columns
    title: str | None = None,
) -> None:
    """Write a PNG of the panels side by side: with a title also captions and a legend, without it the slices alone."""
    sizes = np.array([panel.image.shape for panel in panels]) * spacing
    heights, widths = (sizes * PANEL_INCHES / sizes.max()).T
    gap, top, bottom = (0.06, 0.56, 0.34) if title else (0.0, 0.0, 0.0)
    slots = np.maximum(widths, CAPTION_INCHES) if title else widths
    needed = slots.sum() + gap * (len(panels) + 1)
    width = max(needed, LEGEND_INCHES) if title else needed
    height = heights.max() + top + bottom
    figure = Figure((width, height), DOTS_PER_INCH, facecolor="black")
    left = gap + (width - needed) / 2
    for panel, slot, inches in zip(panels, slots, widths):
        box = ((left + (slot - inches) / 2) / width, bottom / height, inches / width, heights.max() / height)
        axes = figure.add_axes(box)
        _draw_panel(axes, panel, spacing[0] / spacing[1])
        if title:
            axes.set_title(panel.caption, color="#c8c8c8", fontsize=8, pad=3)
        left += slot + gap
    if title:
        figure.text(gap / width, 1 - 0.1 / height, title, color="white", fontsize=11, va="top", parse_math=False)
        _draw_legend(figure, panels)
    figure.savefig(target, format="png", metadata={"Software": None})


def _draw_panel(axes: Axes, panel: Panel, aspect: float) -> None:
    axes.imshow(panel.image, cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1], aspect=aspect, interpolation="bilinear")
    axes.set_autoscale_on(False)
    for labels, style in ((panel.truth, "solid"), (panel.prediction, _prediction_style(panel.truth))):
        for classes, _, color in OUTLINES:
            _outline(axes, labels, classes, color, style)
    axes.set_axis_off()
    # The canonical frame shows slices as from the feet: the patient's right is on the left.
    axes.text(0.015, 0.5, "R", transform=axes.transAxes, color="white", fontsize=8, va="center")


def _prediction_style(truth: np.ndarray | None) -> LineStyle:
    """Dashes tell the prediction from the truth; alone it needs none."""
    return "solid" if truth is None else (0, (2.2, 1.6))


def _outline(axes: Axes, labels: np.ndarray | None, classes: tuple[int, ...], color: str, style: LineStyle) -> None:
    inside = None if labels is None else is_in(labels, classes)
    if inside is None or not inside.any():
        return
    # With a border of nothing around it, an outline also closes along the edge of the picture.
    rows, columns = (np.arange(-1, size + 1) for size in inside.shape)
    lines = axes.contour(
        columns, rows, np.pad(inside, 1), levels=[0.5], colors=color, linewidths=1.4, linestyles=[style]
    )
    # A dark edge keeps the line in sight on bright tissue.
    lines.set_path_effects([Stroke(linewidth=2.4, foreground="#000000a0"), Normal()] if style == "solid" else [])


def _draw_legend(figure: Figure, panels: Sequence[Panel]) -> None:
    entries = [Line2D([], [], color=color, linewidth=1.6, label=name) for _, name, color in reversed(OUTLINES)]
    if any(panel.truth is not None for panel in panels):
        for name, style in (("truth", "solid"), ("prediction", _prediction_style(panels[0].truth))):
            entries.append(Line2D([], [], color="white", linewidth=1.3, linestyle=style, label=name))
    figure.legend(
        handles=entries, loc="lower center", ncols=len(entries), frameon=False, fontsize=8, labelcolor="white",
        borderaxespad=0.2, columnspacing=1.4, handlelength=2.2,
    )  # fmt: skip
