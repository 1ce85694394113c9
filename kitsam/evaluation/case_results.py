"""A case's result on disk, written as soon as the case is scored, so that a restart computes only the rest.

A result carries the fingerprint of all that decided it (decoders, cascade, shards); under another one it is computed anew.
Scoring and writing happen in worker processes, which need neither torch nor the device.
"""

from pathlib import Path
from typing import Any

import numpy as np

from kitsam.evaluation.metrics import score_case
from kitsam.files import read_json, write_json
from kitsam.kits.case import CaseFiles, read_label, save_label

CASES, PREDICTIONS = "cases", "predictions"


def result_path(out: Path, name: str) -> Path:
    return out / CASES / f"{name}.json"


def is_done(out: Path, name: str, fingerprint: str) -> bool:
    path = result_path(out, name)
    if not path.exists():
        return False
    result = read_json(path)
    # Scores without lesions are an older version's.
    return result["fingerprint"] == fingerprint and "tumors" in result.get("scores", {})


def write_result(out: Path, name: str, fingerprint: str, result: dict[str, Any]) -> None:
    """`result`: {"scores": ...}, or {"skipped": why}."""
    write_json(result_path(out, name), {"fingerprint": fingerprint, **result})


def save_and_score(out: Path, files: CaseFiles, label: np.ndarray, fingerprint: str) -> None:
    """Write the label map, then its result: (S, H, W) uint8 in the canonical frame."""
    truth = read_label(files.segmentation)
    save_label(out / PREDICTIONS / f"{files.name}.nii.gz", label, truth.geometry)
    scores = score_case(truth.voxels, label, truth.spacing)
    write_result(out, files.name, fingerprint, {"scores": scores.to_dict()})
