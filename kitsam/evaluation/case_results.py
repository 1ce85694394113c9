"""A case's result on disk, written as soon as the case is scored, so that a restart computes only the rest.

A result carries the fingerprint of all that decided it (decoders, cascade, shards); under another one it is computed
anew. Scoring and writing happen in worker processes, which need neither torch nor the device.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kitsam.ct.case import CaseFiles
from kitsam.ct.volume import read_label, save_label
from kitsam.evaluation.answers import Heard
from kitsam.evaluation.metrics import CaseScores, score_case
from kitsam.system.files import write_json
from kitsam.system.records import read_record

CASES, PREDICTIONS = "cases", "predictions"


def result_path(out: Path, name: str) -> Path:
    return out / CASES / f"{name}.json"


@dataclass(frozen=True)
class CaseResult:
    """What is kept of a case: its scores, or why it has none."""

    fingerprint: str
    scores: CaseScores | None = None
    skipped: str | None = None


def is_done(out: Path, name: str, fingerprint: str) -> bool:
    """Whether the case was scored by the same decoders, cascade and shards, and by a kitsam that kept their answers."""
    if not result_path(out, name).exists():
        return False
    result = read_result(out, name)
    return result.fingerprint == fingerprint and result.scores is not None and result.scores.answers is not None


def write_result(out: Path, name: str, result: CaseResult) -> None:
    write_json(result_path(out, name), {key: value for key, value in asdict(result).items() if value is not None})


def read_result(out: Path, name: str) -> CaseResult:
    """Raises `KitsamError` naming the file when it is missing or damaged."""
    return read_record(result_path(out, name), CaseResult)


def save_and_score(out: Path, files: CaseFiles, label: np.ndarray, heard: Heard, fingerprint: str) -> None:
    """Write the label map, then its result: (S, H, W) uint8 in the canonical frame."""
    truth = read_label(files.segmentation)
    save_label(out / PREDICTIONS / f"{files.name}.nii.gz", label, truth.geometry)
    scores = score_case(truth.voxels, label, truth.spacing, truth.geometry.voxel_ml, heard)
    write_result(out, files.name, CaseResult(fingerprint, scores))
