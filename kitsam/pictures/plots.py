"""The report's plots: Dice over cases, Dice by tumor volume, lesions found, calibration, training curves.

Each function returns a matplotlib figure of its own, without pyplot's global state, drawn for a light or a dark page
on a transparent ground. They are as wide as a phone, so that a page need never shrink their text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

WIDTH, HEIGHT = 3.7, 2.9  # inches
DOTS_PER_INCH = 220  # twice the pixels of a common screen, for those that have them
POINTS = 9  # size of text
WINDOW_SHARE = 0.04  # of a run's steps that a point of the loss curve averages
LEAST_ML = 0.1  # tumors smaller than this, or none, share the end of a volume axis


@dataclass(frozen=True)
class Theme:
    """The colors of a plot that fit a page."""

    ink: str
    grid: str
    kidney: str
    masses: str
    tumor: str
    cyst: str
    curve: str


Points = Sequence[tuple[float, float]]  # x, y

LIGHT = Theme(
    ink="#333a40", grid="#d9dee2", kidney="#0c8f78", masses="#7a4fd0", tumor="#d63a33", cyst="#a87900", curve="#2f6fdb"
)
DARK = Theme(
    ink="#c9d1d6", grid="#3a434a", kidney="#2fd6b5", masses="#b094ff", tumor="#ff6f68", cyst="#ffd23f", curve="#74a7ff"
)


def light_and_dark(draw: Callable[..., Figure], *values: Sequence[float] | Mapping[str, Points]) -> tuple[bytes, bytes]:
    """PNGs of the plot that `draw` makes of `values`: one for a light page, one for a dark page."""
    return _png(draw(*values, LIGHT)), _png(draw(*values, DARK))


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def dice_by_case(
    kidney_and_masses: Sequence[float], masses: Sequence[float], tumor: Sequence[float], theme: Theme
) -> Figure:
    """Dice of each group of classes, from its worst case to its best. All (N,), one a case."""
    figure, (axes,) = _figure(theme, 1)
    places = np.arange(1, len(tumor) + 1)
    for name, dice, color in (
        ("kidney and masses", kidney_and_masses, theme.kidney),
        ("masses", masses, theme.masses),
        ("tumor", tumor, theme.tumor),
    ):
        axes.plot(places, sorted(dice), color=color, label=name, linewidth=1.4, marker="o", markersize=3, clip_on=False)
    axes.set(xlabel="cases, worst to best", ylabel="Dice", ylim=(0, 1), xlim=(0.5, len(tumor) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    _legend(axes, theme)
    return figure


def dice_by_tumor_volume(volumes: Sequence[float], dice: Sequence[float], theme: Theme) -> Figure:
    """Tumor Dice of each case against how much tumor there is. Both (N,), one a case; volumes in mL."""
    figure, (axes,) = _figure(theme, 1)
    _dots(axes, _on_axis(volumes), dice, theme)
    axes.set(xlabel="true tumor volume, mL", ylabel="tumor Dice", ylim=(0, 1))
    _scale_to_volumes(axes, volumes, "x")
    return figure


def tumor_volumes(true: Sequence[float], predicted: Sequence[float], theme: Theme) -> Figure:
    """How much tumor was predicted against how much there is. Both (N,), one a case, in mL."""
    figure, (axes,) = _figure(theme, 1)
    axes.axline((1, 1), (10, 10), color=theme.ink, linewidth=0.8)
    _dots(axes, _on_axis(true), _on_axis(predicted), theme)
    axes.set(xlabel="true tumor volume, mL", ylabel="predicted, mL")
    _scale_to_volumes(axes, [*true, *predicted], "xy")
    return figure


def _dots(axes: Axes, x: Sequence[float], y: Sequence[float], theme: Theme) -> None:
    axes.scatter(x, y, s=22, color=theme.tumor, alpha=0.75, linewidths=0, clip_on=False, zorder=3)


def _on_axis(volumes: Sequence[float]) -> list[float]:
    return [max(volume, LEAST_ML) for volume in volumes]


def _scale_to_volumes(axes: Axes, volumes: Sequence[float], which: str) -> None:
    """Logarithmic axes from LEAST_ML to the power of ten above all volumes."""
    last = int(np.ceil(np.log10(max(*volumes, 10.0))))
    ticks = [LEAST_ML, *(10.0**power for power in range(last + 1))]
    for name in which:
        axes.set(**{f"{name}scale": "log", f"{name}lim": (ticks[0], ticks[-1])})
        axis = getattr(axes, f"{name}axis")
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"≤{value:g}" if value <= LEAST_ML else f"{value:g}"))


def free_response(curves: Mapping[str, Points], theme: Theme) -> Figure:
    """Share of lesions found against false ones a case, by "tumor" or "cyst": corners of a step curve from 0, 0 on."""
    figure, (axes,) = _figure(theme, 1)
    for name, points in curves.items():
        color = getattr(theme, name)
        x, y = zip((0.0, 0.0), *points)
        axes.step(x, y, where="post", color=color, label=f"{name}s", linewidth=1.6)
        axes.plot(x[-1], y[-1], color=color, marker="o", markersize=5, clip_on=False)
    most = max((x for points in curves.values() for x, _ in points), default=0.0)
    axes.set(xlabel="false lesions a case", ylabel="share of lesions found", ylim=(0, 1), xlim=(0, max(1.1 * most, 1)))
    _legend(axes, theme)
    return figure


def reliability_diagram(curves: Mapping[str, Points], theme: Theme) -> Figure:
    """How often it was so against the mean probability of each bin, by "roi", "tumor" or "cyst"."""
    figure, (axes,) = _figure(theme, 1)
    axes.axline((0, 0), (1, 1), color=theme.ink, linewidth=0.8)
    colors = {"roi": ("kidney and masses", theme.kidney), "tumor": ("tumor", theme.tumor), "cyst": ("cyst", theme.cyst)}
    for target, points in curves.items():
        name, color = colors[target]
        axes.plot(*zip(*points), color=color, label=name, linewidth=1.4, marker="o", markersize=3, clip_on=False)
    axes.set(xlabel="probability", ylabel="how often it was so", xlim=(0, 1), ylim=(0, 1))
    _legend(axes, theme)
    return figure


def training_curve(
    steps: np.ndarray,  # (N,)
    loss: np.ndarray,  # (N,)
    validation_steps: np.ndarray,  # (M,)
    validation_dice: np.ndarray,  # (M,)
    theme: Theme,
) -> Figure:
    """Loss above, validation Dice below with a mark at the best, on the same steps."""
    figure, (above, below) = _figure(theme, 2)
    above.plot(steps, loss, color=theme.curve, alpha=0.3, linewidth=0.8)
    above.plot(steps, _smooth(loss), color=theme.curve, linewidth=1.6)
    above.set(ylabel="loss")
    above.tick_params(labelbottom=False)
    below.plot(validation_steps, validation_dice, color=theme.kidney, linewidth=1.4, marker="o", markersize=3)
    if len(validation_dice):
        best = validation_dice.argmax()
        below.plot(validation_steps[best], validation_dice[best], color=theme.tumor, marker="o", markersize=5)
    below.set(xlabel="step", ylabel="validation Dice", ylim=(0, 1))
    below.sharex(above)
    below.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.align_ylabels()
    return figure


def _smooth(values: np.ndarray) -> np.ndarray:
    """(N,) means over a sliding window of points, of fewer at the ends."""
    half = int(len(values) * WINDOW_SHARE / 2)
    total = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(np.arange(len(values)) - half, 0)
    last = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (total[last] - total[first]) / (last - first)


def _figure(theme: Theme, rows: int) -> tuple[Figure, list[Axes]]:
    figure = Figure((WIDTH, HEIGHT * (1 if rows == 1 else 1.25)), layout="constrained", facecolor="none")
    axes = list(figure.subplots(rows, 1, squeeze=False)[:, 0])
    for part in axes:
        part.set_facecolor("none")
        part.grid(color=theme.grid, linewidth=0.6)
        part.set_axisbelow(True)
        part.spines[["top", "right"]].set_visible(False)
        part.spines[["left", "bottom"]].set_color(theme.grid)
        part.tick_params(colors=theme.ink, labelsize=POINTS, length=0, pad=5)
        part.xaxis.label.set(color=theme.ink, size=POINTS)
        part.yaxis.label.set(color=theme.ink, size=POINTS)
    return figure, axes


def _legend(axes: Axes, theme: Theme) -> None:
    axes.figure.legend(
        loc="outside upper center", ncols=3, frameon=False, fontsize=POINTS, labelcolor=theme.ink,
        handlelength=1.2, columnspacing=1.0,
    )  # fmt: skip
