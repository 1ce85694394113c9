"""What one case holds, and what a whole data set holds: sizes, spacing, intensities, strata, volumes.

Intensities are counted in bins of one HU, so that percentiles over all cases do not need the voxels in memory.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kitsam.ct.case import CaseFiles, read_case
from kitsam.ct.labels import CLASS_NAMES, CYST, KIDNEY, TARGETS, TUMOR
from kitsam.ct.strata import POSITIVE_BALANCE, STRATA, negative_ratio, stratum_of

HU_RANGE = (-2048, 4095)
PERCENTILES = (0.5, 5.0, 50.0, 95.0, 99.5)
FOREGROUND = CLASS_NAMES[KIDNEY:]


@dataclass(frozen=True)
class CaseFingerprint:
    """The measures of one case."""

    name: str
    shape: tuple[int, int, int]  # slices, rows, columns
    spacing: tuple[float, float, float]  # mm
    voxel_ml: float
    hu_range: tuple[float, float]  # of the whole scan
    voxels: tuple[int, ...]  # per class
    strata: dict[str, int]  # slices per stratum
    histogram: np.ndarray  # (3, HU bins) int64: kidney, tumor, cyst
    doubts: tuple[str, ...]  # about its files

    def milliliters(self, kind: int) -> float:
        """Volume of one class."""
        return self.voxels[kind] * self.voxel_ml


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
        case.geometry.voxel_ml,
        (float(case.image.min()), float(case.image.max())),
        tuple(pixels.sum(axis=0).tolist()),
        {stratum: strata[stratum] for stratum in STRATA},
        histogram,
        case.doubts,
    )


def _histogram(hu: np.ndarray) -> np.ndarray:
    """(N,) HU -> (HU bins,) int64."""
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
        "cases_with": {
            name: sum(case.voxels[kind] > 0 for case in cases) for kind, name in enumerate(CLASS_NAMES) if kind
        },
        "negative_ratio": {target: round_digits(ratio) for target, ratio in ratios.items()},
        "positive_weight": {target: round_digits(ratio**POSITIVE_BALANCE) for target, ratio in ratios.items()},
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
    return dict(zip(("min", "q25", "median", "q75", "max"), map(round_digits, quantiles)))


def _intensities(counts: np.ndarray) -> dict[str, float] | None:
    """Mean, standard deviation and percentiles from a histogram, (HU bins,); percentiles are exact to one HU."""
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
    return {"mean": round_digits(mean), "std": round_digits(deviation), **percentiles}


def round_digits(value: float) -> float:
    """To five significant digits."""
    return float(f"{value:.5g}")
