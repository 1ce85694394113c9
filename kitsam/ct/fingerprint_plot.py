"""A data set's fingerprint as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kitsam.ct.labels import CLASS_NAMES, CYST, TUMOR
from kitsam.ct.measure import FOREGROUND, HU_RANGE, CaseFingerprint
from kitsam.ct.strata import STRATA
from kitsam.system.files import complete_or_absent

COLORS = dict(zip(FOREGROUND, ("tab:red", "tab:green", "tab:blue")))


def plot_fingerprint(path: Path, cases: Sequence[CaseFingerprint]) -> None:
    """Write a PNG of six panels: strata, intensities, lesion volumes, both spacings, slices."""
    # matplotlib takes most of a second to import; only this picture needs it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    _plot_strata(panels[0], cases)
    _plot_intensities(panels[1], cases)
    _plot_volumes(panels[2], cases)
    panels[3].hist([case.spacing[0] for case in cases], bins=20, color="0.4")
    panels[3].set(title="Slice spacing", xlabel="mm", ylabel="cases")
    panels[4].hist([case.spacing[1] for case in cases], bins=20, color="0.4")
    panels[4].set(title="In-plane spacing", xlabel="mm", ylabel="cases")
    panels[5].hist([case.shape[0] for case in cases], bins=20, color="0.4")
    panels[5].set(title="Slices of a case", xlabel="slices", ylabel="cases")
    with complete_or_absent(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)


def _plot_strata(axes: Any, cases: Sequence[CaseFingerprint]) -> None:
    counts = [sum(case.strata[stratum] for case in cases) for stratum in STRATA]
    axes.bar_label(axes.bar(STRATA, counts, color="0.4"))
    axes.margins(y=0.1)
    axes.tick_params(axis="x", labelsize="small")
    axes.set(title="Slices per stratum", ylabel="slices")


def _plot_intensities(axes: Any, cases: Sequence[CaseFingerprint]) -> None:
    histogram = np.sum([case.histogram for case in cases], axis=0)
    hu = np.arange(HU_RANGE[0], HU_RANGE[1] + 1)
    for name, counts in zip(FOREGROUND, histogram):
        if counts.any():
            axes.plot(hu, counts / counts.sum(), label=name, color=COLORS[name])
    axes.set(title="Intensities", xlabel="HU", ylabel="share of the class's voxels", xlim=(-200, 400))
    axes.legend()


def _plot_volumes(axes: Any, cases: Sequence[CaseFingerprint]) -> None:
    for kind in (TUMOR, CYST):
        volumes = sorted(case.milliliters(kind) for case in cases if case.voxels[kind])
        if volumes:
            share = np.arange(1, len(volumes) + 1) / len(volumes)
            axes.step(
                volumes,
                share,
                where="post",
                label=f"{CLASS_NAMES[kind]} ({len(volumes)} cases)",
                color=COLORS[CLASS_NAMES[kind]],
            )
            axes.set_xscale("log")
    axes.set(title="Lesion volume of a case", xlabel="mL", ylabel="share of cases below")
    if axes.get_lines():
        axes.legend()
