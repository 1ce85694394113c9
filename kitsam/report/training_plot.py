"""A training run on one axis of steps: loss, validation Dice, learning rate and slices a second."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from kitsam.decoding.training_log import TrainingLog
from kitsam.pictures.charts import COLORS, KIDNEY, TUMOR, new_figure

ROW_INCHES = 1.25
WINDOW_SHARE = 0.04  # of a run's steps that a point of the loss curve averages


def training_curve(log: TrainingLog) -> Figure:
    """The best validation has a mark of its own. Rates are shown where the log tells them."""
    rates = [one for one in (log.learning_rate, log.slices_per_second) if len(one.steps)]
    figure, (loss, dice, *others) = new_figure(2 + len(rates), ROW_INCHES * (2 + len(rates)) + 0.4)
    loss.plot(log.steps, log.loss, color=COLORS["curve"], alpha=0.3, linewidth=0.8)
    loss.plot(log.steps, smooth(log.loss), color=COLORS["curve"], linewidth=1.6)
    loss.set(ylabel="loss")
    dice.plot(log.validation_steps, log.validation_dice, color=KIDNEY.color, linewidth=1.4, marker="o", markersize=3)
    if log.best:
        dice.plot(*log.best, color=TUMOR.color, marker="D", markersize=5)
    dice.set(ylabel="validation\nDice", ylim=(0, 1))
    for axes, rate in zip(others, rates):
        axes.plot(rate.steps, rate.values, color=COLORS["curve"], linewidth=1.4)
        axes.set(ylabel=rate.label)
        axes.set_ylim(bottom=0)
    _share_steps([loss, dice, *others])
    figure.align_ylabels()
    return figure


def _share_steps(rows: list[Axes]) -> None:
    *above, last = rows
    for axes in above:
        axes.sharex(last)
        axes.tick_params(labelbottom=False)
    last.set(xlabel="step")
    last.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axes in rows:
        axes.yaxis.set_major_locator(MaxNLocator(4))
        formatter = ScalarFormatter(useMathText=False)
        formatter.set_powerlimits((-3, 4))
        axes.yaxis.set_major_formatter(formatter)
        axes.yaxis.get_offset_text().set(color=COLORS["ink"], size=7)


def smooth(values: np.ndarray) -> np.ndarray:
    """(N,) means over a sliding window of points, of fewer at the ends."""
    half = int(len(values) * WINDOW_SHARE / 2)
    total = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(np.arange(len(values)) - half, 0)
    last = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (total[last] - total[first]) / (last - first)
