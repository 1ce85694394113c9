"""`kitsam fingerprint`: what a data set holds, before anything is trained on it.

Every case is read once. Intensities are counted in bins of one HU, so that percentiles over all cases need no voxel
to be kept: memory is one case per thread. What differs from the rest of the data set, or from what CT can be, is
listed as an outlier; a case that cannot be used is left out, listed, and makes the exit code 1.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from kitsam.config import FingerprintConfig, LossConfig
from kitsam.console import progress, say, warn
from kitsam.errors import CaseError, OptionError
from kitsam.files import complete_or_absent, write_text
from kitsam.kits.case import (
    CLASS_NAMES,
    CYST,
    KIDNEY,
    TUMOR,
    CaseFiles,
    find_cases,
    read_case,
)
from kitsam.kits.strata import STRATA, negative_ratio, stratum_of

READING_THREADS = min(4, os.cpu_count() or 1)  # unpacking gzip releases the interpreter
HU_RANGE = (-2048, 4095)
PERCENTILES = (0.5, 5.0, 50.0, 95.0, 99.5)
TARGETS = ("roi", "tumor", "cyst")
FOREGROUND = CLASS_NAMES[KIDNEY:]

# KiTS23 has 0.5-5 mm between slices and fields of view of 200-532 mm; a little beyond is no news.
USUAL_SLICE_SPACING = (0.4, 6.0)  # mm
USUAL_FIELD = (190.0, 560.0)  # mm
USUAL_ASPECT = 1.01  # of a pixel


@dataclass(frozen=True)
class CaseFingerprint:
    name: str
    shape: tuple[int, int, int]  # slices, rows, columns
    spacing: tuple[float, float, float]  # mm
    hu_range: tuple[float, float]  # of the whole scan
    voxels: tuple[int, ...]  # per class
    strata: dict[str, int]  # slices per stratum
    histogram: np.ndarray  # (3, HU bins) int64: kidney, tumor, cyst

    def milliliters(self, kind: int) -> float:
        return self.voxels[kind] * float(np.prod(self.spacing)) / 1000


def run(config: FingerprintConfig) -> int:
    files = find_cases(config.data, "DATA")
    cases, skipped = _measure_all(list(files.values()))
    if not cases:
        raise OptionError(f"DATA: no usable case in {config.data}: {next(iter(skipped.values()))}")
    outliers = {case.name: odd for case in cases if (odd := list(_oddities(case, cases)))}
    summary = summarize(cases)
    _print(summary, outliers, skipped)
    folder = config.out or Path()
    text, picture = folder / "fingerprint.json", folder / "fingerprint.png"
    write_text(text, _json(summary, cases, outliers, skipped))
    _plot(picture, cases)
    say(f"Wrote {text} and {picture}")
    return 1 if skipped else 0


def _measure_all(files: Sequence[CaseFiles]) -> tuple[list[CaseFingerprint], dict[str, str]]:
    """The usable cases, and why each other one is not."""
    cases, skipped = [], {}
    with ThreadPoolExecutor(READING_THREADS) as threads, progress("Measuring", len(files), "cases") as tick:
        for case, result in zip(files, threads.map(_measure_or_refuse, files)):
            if isinstance(result, CaseError):
                warn(f"{case.name} is left out: {result}")
                skipped[case.name] = str(result)
            else:
                cases.append(result)
            tick(1, case.name)
    return cases, skipped


def _measure_or_refuse(files: CaseFiles) -> CaseFingerprint | CaseError:
    try:
        return measure(files)
    except CaseError as error:
        return error


def measure(files: CaseFiles) -> CaseFingerprint:
    """Read one case. Raises `CaseError` where `read_case` does."""
    case = read_case(files)
    pixels = np.stack([np.bincount(labels.ravel(), minlength=len(CLASS_NAMES)) for labels in case.label])
    strata = Counter(stratum_of(counts) for counts in pixels.tolist())
    histogram = np.stack([_histogram(case.image[case.label == kind]) for kind in (KIDNEY, TUMOR, CYST)])
    return CaseFingerprint(
        case.name,
        case.image.shape,
        case.spacing,
        (float(case.image.min()), float(case.image.max())),
        tuple(pixels.sum(axis=0).tolist()),
        {stratum: strata[stratum] for stratum in STRATA},
        histogram,
    )


def _histogram(hu: np.ndarray) -> np.ndarray:
    low, high = HU_RANGE
    bins = np.rint(np.clip(hu, low, high)).astype(np.int64) - low
    return np.bincount(bins, minlength=high - low + 1)


def summarize(cases: Sequence[CaseFingerprint]) -> dict[str, Any]:
    """The data set in numbers, as JSON keeps them."""
    voxels = np.sum([case.voxels for case in cases], axis=0).tolist()
    strata = {stratum: sum(case.strata[stratum] for case in cases) for stratum in STRATA}
    ratios = {target: negative_ratio(voxels, target) for target in TARGETS}
    histogram = np.sum([case.histogram for case in cases], axis=0)
    sizes = Counter(f"{rows}x{columns}" for _, rows, columns in (case.shape for case in cases))
    return {
        "cases": len(cases),
        "slices": sum(strata.values()),
        "slices_per_case": _spread([case.shape[0] for case in cases]),
        "in_plane_sizes": dict(sizes.most_common()),
        "slice_spacing": _spread([case.spacing[0] for case in cases]),
        "in_plane_spacing": _spread([case.spacing[1] for case in cases]),
        "strata": strata,
        "voxels": dict(zip(CLASS_NAMES, voxels)),
        "cases_with": {name: sum(case.voxels[kind] > 0 for case in cases) for kind, name in enumerate(CLASS_NAMES) if kind},
        "negative_ratio": {target: _short(ratio) for target, ratio in ratios.items()},
        "positive_weight": {target: _short(ratio ** LossConfig().balance) for target, ratio in ratios.items()},
        "volume_ml": {
            CLASS_NAMES[kind]: _spread([case.milliliters(kind) for case in cases if case.voxels[kind]])
            for kind in (KIDNEY, TUMOR, CYST)
        },
        "hu": {
            "foreground": _intensities(histogram.sum(axis=0)),
            **{name: _intensities(counts) for name, counts in zip(FOREGROUND, histogram)},
        },
    }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """Least, quartiles and largest of one number per case; None where no case has one."""
    if not values:
        return None
    quantiles = np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist()
    return dict(zip(("min", "q25", "median", "q75", "max"), map(_short, quantiles)))


def _intensities(counts: np.ndarray) -> dict[str, float] | None:
    """Mean, deviation and percentiles from a histogram of HU, to one HU."""
    total = int(counts.sum())
    if not total:
        return None
    hu = np.arange(HU_RANGE[0], HU_RANGE[1] + 1)
    mean = float((counts * hu).sum() / total)
    deviation = float(np.sqrt((counts * (hu - mean) ** 2).sum() / total))
    below = np.cumsum(counts)
    percentiles = {
        f"percentile_{percent:04.1f}".replace(".", "_"): int(hu[np.searchsorted(below, percent / 100 * total)])
        for percent in PERCENTILES
    }
    return {"mean": _short(mean), "std": _short(deviation), **percentiles}


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _oddities(case: CaseFingerprint, cases: Sequence[CaseFingerprint]) -> Iterator[str]:
    """Why a person should look at this case."""
    common = Counter(other.shape[1:] for other in cases).most_common(1)[0][0]
    slice_spacing, row_spacing, column_spacing = case.spacing
    fields = (case.shape[1] * row_spacing, case.shape[2] * column_spacing)
    if case.shape[1:] != common:
        yield f"slices of {case.shape[1]}x{case.shape[2]} pixels, most have {common[0]}x{common[1]}"
    if not case.voxels[KIDNEY]:
        yield "no kidney is labeled"
    if not USUAL_SLICE_SPACING[0] <= slice_spacing <= USUAL_SLICE_SPACING[1]:
        yield f"{slice_spacing:g} mm between slices"
    if min(fields) < USUAL_FIELD[0] or max(fields) > USUAL_FIELD[1]:
        yield f"field of view of {fields[0]:.0f} x {fields[1]:.0f} mm"
    if max(row_spacing, column_spacing) > USUAL_ASPECT * min(row_spacing, column_spacing):
        yield f"pixels are not square: {row_spacing:g} x {column_spacing:g} mm"
    if case.hu_range[0] >= 0:
        yield f"no value below {case.hu_range[0]:g} HU: probably stored without rescale slope and intercept, or clipped"


def _print(summary: dict[str, Any], outliers: dict[str, list[str]], skipped: dict[str, str]) -> None:
    for table in (_sizes(summary), _strata(summary), _classes(summary), _intensity_table(summary), _balance(summary)):
        say(table)
    _list("Outliers", outliers)
    _list("Left out", {name: [reason] for name, reason in skipped.items()})


def _sizes(summary: dict[str, Any]) -> Table:
    table = Table("", "min", "q25", "median", "q75", "max", title=f"{summary['cases']} cases, {summary['slices']} slices")
    for title, key in (
        ("slices of a case", "slices_per_case"),
        ("mm between slices", "slice_spacing"),
        ("mm between rows", "in_plane_spacing"),
    ):
        table.add_row(title, *(f"{value:g}" for value in summary[key].values()))
    table.caption = "in plane: " + ", ".join(f"{size} in {count}" for size, count in summary["in_plane_sizes"].items())
    return table


def _strata(summary: dict[str, Any]) -> Table:
    table = Table("stratum", "slices", "share", title="Slices")
    for stratum, count in summary["strata"].items():
        table.add_row(stratum, str(count), f"{count / summary['slices']:.1%}")
    return table


def _classes(summary: dict[str, Any]) -> Table:
    table = Table("class", "cases", "voxels", "mL: min", "q25", "median", "q75", "max", title="Classes")
    total = sum(summary["voxels"].values())
    for name, count in summary["voxels"].items():
        volumes = summary["volume_ml"].get(name) or {}
        cases = summary["cases_with"].get(name, summary["cases"])
        table.add_row(name, str(cases), f"{count / total:.3%}", *(f"{value:.1f}" for value in volumes.values()))
    return table


def _intensity_table(summary: dict[str, Any]) -> Table:
    table = Table("HU", "mean", "std", *(f"{percent:g} %" for percent in PERCENTILES), title="Intensities")
    for name, numbers in summary["hu"].items():
        table.add_row(name, *(f"{value:.0f}" for value in (numbers or {}).values()))
    return table


def _balance(summary: dict[str, Any]) -> Table:
    balance = LossConfig().balance
    table = Table("decoder", "negative : positive", f"weight (balance {balance:g})", title="Positive pixels in the loss")
    for target in TARGETS:
        weight = summary["positive_weight"][target]
        table.add_row(target, f"{summary['negative_ratio'][target]:.1f}", f"{weight:.2f}")
    return table


def _list(title: str, cases: dict[str, list[str]]) -> None:
    if cases:
        say(f"{title}:")
    for name, reasons in cases.items():
        say(f"  {name}: {'; '.join(reasons)}")


def _json(
    summary: dict[str, Any], cases: Sequence[CaseFingerprint], outliers: dict[str, list[str]], skipped: dict[str, str]
) -> str:
    """Indented, but with one line a case: a person can read it and `grep` finds a case."""
    rows = {
        case.name: {
            "shape": list(case.shape),
            "spacing": [_short(mm) for mm in case.spacing],
            "hu_range": [_short(hu) for hu in case.hu_range],
            "voxels": list(case.voxels),
            "strata": case.strata,
            "volume_ml": {CLASS_NAMES[kind]: _short(case.milliliters(kind)) for kind in (KIDNEY, TUMOR, CYST)},
        }
        for case in cases
    }
    head = json.dumps({**summary, "outliers": outliers, "left_out": skipped}, indent=1, ensure_ascii=False)
    lines = ",\n".join(f"  {json.dumps(name, ensure_ascii=False)}: {json.dumps(row)}" for name, row in rows.items())
    return head.removesuffix("\n}") + f',\n "per_case": {{\n{lines}\n }}\n}}\n'


def _plot(path: Path, cases: Sequence[CaseFingerprint]) -> None:
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


COLORS = dict(zip(FOREGROUND, ("tab:red", "tab:green", "tab:blue")))


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
            axes.step(volumes, share, where="post", label=f"{CLASS_NAMES[kind]} ({len(volumes)} cases)", color=COLORS[CLASS_NAMES[kind]])
            axes.set_xscale("log")
    axes.set(title="Lesion volume of a case", xlabel="mL", ylabel="share of cases below")
    if axes.get_lines():
        axes.legend()
