"""A data set's fingerprint as tables on the terminal."""

from typing import Any

from rich.table import Table

from kitsam.ct.labels import CLASS_NAMES, TARGET_CLASSES, TARGETS, Target
from kitsam.ct.measure import PERCENTILES
from kitsam.ct.strata import POSITIVE_BALANCE
from kitsam.system.console import say


def print_fingerprint(summary: dict[str, Any], outliers: dict[str, list[str]], skipped: dict[str, str]) -> None:
    """`outliers`: why a person should look at a case; `skipped`: why a case was left out."""
    for table in (_sizes(summary), _strata(summary), _classes(summary), _intensity_table(summary), _balance(summary)):
        say(table)
    for target in TARGETS:
        if not _is_labeled(summary, target):
            classes = " or ".join(CLASS_NAMES[number] for number in TARGET_CLASSES[target])
            say(f"No case has a voxel of {classes}: a {target} decoder would have nothing to learn from.")
    _list("Outliers", outliers)
    _list("Left out", {name: [reason] for name, reason in skipped.items()})


def _sizes(summary: dict[str, Any]) -> Table:
    table = Table(
        "", "min", "q25", "median", "q75", "max", title=f"{summary['cases']} cases, {summary['slices']} slices"
    )
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
    table = Table(
        "decoder", "negative : positive", f"weight (balance {POSITIVE_BALANCE:g})", title="Positive pixels in the loss"
    )
    for target in TARGETS:
        ratio, weight = f"{summary['negative_ratio'][target]:.1f}", f"{summary['positive_weight'][target]:.2f}"
        table.add_row(target, *((ratio, weight) if _is_labeled(summary, target) else ("–", "–")))
    return table


def _is_labeled(summary: dict[str, Any], target: Target) -> bool:
    return any(summary["voxels"][CLASS_NAMES[number]] for number in TARGET_CLASSES[target])


def _list(title: str, cases: dict[str, list[str]]) -> None:
    if cases:
        say(f"{title}:")
    for name, reasons in cases.items():
        say(f"  {name}: {'; '.join(reasons)}")
