"""What was scored: cases drawn or rendered by kitsam, of KiTS23, or other scans (`ct/origin.py`), by number.

The paper's figures stand beside those of KiTS23's cases alone, and not beside answers to boxes of the truth.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from kitsam.ct.case import CaseFiles
from kitsam.ct.origin import Origin, origin_of
from kitsam.ct.volume import read_geometry
from kitsam.evaluation.metrics import CaseScores
from kitsam.system.errors import CaseError

SETTING = "origins"  # in `metrics.json`
Kind = Origin | Literal["unknown"]
# One case, several.
ORIGIN_TEXTS: dict[Kind, tuple[str, str]] = {
    "drawn": ("drawn case, no scan of a patient", "drawn cases, no scans of patients"),
    "rendered": (
        "CT rendered over a label map, no scan of a patient",
        "CTs rendered over label maps, no scans of patients",
    ),
    "kits23": ("case of KiTS23 by name and labels", "cases of KiTS23 by names and labels"),
    "scan": ("scan that is no whole case of KiTS23", "scans that are no whole cases of KiTS23"),
    "unknown": ("case of unknown origin", "cases of unknown origin"),
}


def count_origins(files: Mapping[str, CaseFiles], scores: Mapping[str, CaseScores]) -> dict[Kind, int]:
    """How many of the scored cases are of each origin. Reads their headers."""
    counts = Counter(_origin(files.get(name), case) for name, case in scores.items())
    return {kind: counts[kind] for kind in ORIGIN_TEXTS if counts[kind]}


def _origin(files: CaseFiles | None, case: CaseScores) -> Kind:
    if files is None:
        return "unknown"
    try:
        voxel_ml = read_geometry(files.segmentation).voxel_ml
    except CaseError:
        return "unknown"
    volumes = case.true_kidney_ml, case.true_tumor_ml, case.true_cyst_ml
    scan: Path = files.imaging if files.imaging.is_file() else files.segmentation
    return origin_of(files.name, scan, [round(ml / voxel_ml) for ml in volumes])


def origins_text(origins: Mapping[Kind, int]) -> str:
    texts = [f"{count} {ORIGIN_TEXTS[kind][count > 1]}" for kind, count in origins.items()]
    return "; ".join(texts)


def is_like_the_papers(settings: Mapping[str, Any], origins: Mapping[Kind, int]) -> bool:
    """Whether the paper's figures may stand beside these: whole cases of KiTS23, boxes of the ROI decoder."""
    return set(origins) == {"kits23"} and not settings.get("zero_shot")
