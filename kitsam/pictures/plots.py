"""The report's charts of cases: Dice, Dice by tumor volume, volumes beside the true ones, lesions found, calibration.

Each function returns a matplotlib figure of its own, without pyplot's global state.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from kitsam.pictures.charts import COLORS, CYST, KIDNEY, MASSES, TUMOR, Series, add_legend, dot, new_figure

LEAST_ML = 0.1  # tumors smaller than this, or none, share the end of a volume axis
AGREEMENT = 1.96  # standard deviations to either side hold 95 % of normal differences

Points = Sequence[tuple[float, float]]  # x, y
LINES = {"roi": KIDNEY, "tumor": TUMOR, "cyst": CYST}


def dice_by_case(kidney_and_masses: Sequence[float], masses: Sequence[float], tumor: Sequence[float]) -> Figure:
    """Dice of each group of classes, from its worst case to its best. All (N,), one a case."""
    figure, (axes,) = new_figure(1)
    places = np.arange(1, len(tumor) + 1)
    for series, dice in ((KIDNEY, kidney_and_masses), (MASSES, masses), (TUMOR, tumor)):
        axes.plot(places, sorted(dice), **series.style, linewidth=1.4, markersize=3, clip_on=False)
    axes.set(xlabel="cases, worst to best", ylabel="Dice", ylim=(0, 1), xlim=(0.5, len(tumor) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    add_legend(axes)
    return figure


def dice_by_tumor_volume(names: Sequence[str], volumes: Sequence[float], dice: Sequence[float]) -> Figure:
    """Tumor Dice of each case against how much tumor there is. All (N,), one a case; volumes in mL."""
    figure, (axes,) = new_figure(1)
    for name, volume, value in zip(names, volumes, dice):
        dot(axes, max(volume, LEAST_ML), value, TUMOR, f"{name}: {volume:.1f} mL, tumor Dice {value:.3f}")
    axes.set(xlabel="true tumor volume, mL", ylabel="tumor Dice", ylim=(0, 1))
    _scale_to_volumes(axes, volumes)
    return figure


def volume_differences(
    names: Sequence[str], true: Sequence[float], predicted: Sequence[float], what: str, series: Series
) -> Figure:
    """Bland and Altman's picture of agreement: predicted minus true volume against the mean of both, with the mean
    difference and the limits within which 95 % lie. All (N,), one a case, in mL.
    """
    figure, (axes,) = new_figure(1)
    means, differences = (np.array(true) + predicted) / 2, np.subtract(predicted, true)
    for name, x, y, one, other in zip(names, means, differences, true, predicted):
        dot(axes, max(x, LEAST_ML), y, series, f"{name}: {one:.1f} mL, predicted {other:.1f} mL")
    middle, limits = limits_of_agreement(differences)
    axes.axhline(middle, color=COLORS["ink"], linewidth=1.0)
    for limit in limits or ():
        axes.axhline(limit, color=COLORS["ink"], linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set(xlabel=f"{what} volume, mean of true and predicted, mL", ylabel="predicted − true, mL")
    reach = 1.1 * max(np.abs([*differences, middle, *(limits or ())]).max(), 1)
    axes.set_ylim(-reach, reach)
    _scale_to_volumes(axes, means)
    return figure


def limits_of_agreement(differences: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """The mean difference, and between what 95 % of them lie if they are normal; None for a single one."""
    middle = float(np.mean(differences))
    if len(differences) < 2:
        return middle, None
    reach = AGREEMENT * float(np.std(differences, ddof=1))
    return middle, (middle - reach, middle + reach)


def _scale_to_volumes(axes: Axes, volumes: Sequence[float]) -> None:
    """A logarithmic x axis from LEAST_ML to the power of ten above all volumes."""
    last = int(np.ceil(np.log10(max(*volumes, 10.0))))
    ticks = [LEAST_ML, *(10.0**power for power in range(last + 1))]
    axes.set(xscale="log", xlim=(ticks[0], ticks[-1]))
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"≤{value:g}" if value <= LEAST_ML else f"{value:g}"))


def free_response(curves: Mapping[str, Points]) -> Figure:
    """Share of lesions found against false ones a case, by "tumor" or "cyst": corners of a step curve from 0, 0 on."""
    figure, (axes,) = new_figure(1)
    for lesion, points in curves.items():
        series = LINES[lesion]
        x, y = zip((0.0, 0.0), *points)
        style = {**series.style, "label": f"{lesion}s", "marker": None}
        axes.step(x, y, where="post", **style, linewidth=1.6)
        axes.plot(x[-1], y[-1], color=series.color, marker=series.marker, markersize=5, clip_on=False)
    most = max((x for points in curves.values() for x, _ in points), default=0.0)
    axes.set(xlabel="false lesions a case", ylabel="share of lesions found", ylim=(0, 1), xlim=(0, max(1.1 * most, 1)))
    add_legend(axes)
    return figure


def reliability_diagram(curves: Mapping[str, Points]) -> Figure:
    """How often it was so against the mean probability of each bin, by "roi", "tumor" or "cyst"."""
    figure, (axes,) = new_figure(1)
    axes.axline((0, 0), (1, 1), color=COLORS["ink"], linewidth=0.8)
    for target, points in curves.items():
        axes.plot(*zip(*points), **LINES[target].style, linewidth=1.4, markersize=3, clip_on=False)
    axes.set(xlabel="probability", ylabel="how often it was so", xlim=(0, 1), ylim=(0, 1))
    add_legend(axes)
    return figure
