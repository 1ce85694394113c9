"""Everything that a report can show: a small data set, predictions, logs of runs, a shard set's counts."""

import json
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
from resources import text_of
from two_kidneys import SPACING, image, labels

from kitsam.ct.labels import TARGETS, target_mask
from kitsam.evaluation.answers import Heard
from kitsam.evaluation.metrics import score_case
from kitsam.evaluation.results import write_metrics
from kitsam.report import page
from kitsam.report.config import ReportConfig

IPL = np.array([[0, 0, -SPACING[2], 0], [0, -SPACING[1], 0, 0], [-SPACING[0], 0, 0, 0], [0, 0, 0, 1.0]])

__all__ = ["image", "labels"]  # fixtures


class Evaluation(NamedTuple):
    folder: Path
    settings: dict
    scores: dict


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory, labels, image) -> Evaluation:
    """Four cases, the better the lower their number; the last has no prediction. Not to be changed."""
    folder = tmp_path_factory.mktemp("evaluation")
    data, predictions, runs, shards = (folder / name for name in ("data", "predictions", "runs", "shards"))
    scores = {}
    predictions.mkdir()
    for number in range(4):
        name = f"case_{number:05d}"
        predicted = np.roll(labels, (0, 2 * number, -number), (0, 1, 2))
        scores[name] = score_case(labels, predicted, SPACING, heard=_heard(labels, predicted, 250 - 20 * number))
        (data / name).mkdir(parents=True)
        nib.save(nib.Nifti1Image(image, IPL), data / name / "imaging.nii.gz")
        nib.save(nib.Nifti1Image(labels, IPL), data / name / "segmentation.nii.gz")
        if number < 3:
            nib.save(nib.Nifti1Image(predicted, IPL), predictions / f"{name}.nii.gz")
    for target in ("roi", "tumor", "cyst"):
        (runs / target).mkdir(parents=True)
        (runs / target / "metrics.jsonl").write_text("".join(map(_log_line, range(1, 61))))
        (runs / target / "config.yaml").write_text(
            f"target: {target}\nquotas:\n  kidney: 1\n  tumor: 1\nnote: <b>bold</b>\n"
        )
    shards.mkdir()
    strata = {"background": 4000, "kidney": 3000, "tumor": 2000, "cyst": 700, "tumor_cyst": 300}
    (shards / "manifest.json").write_text(json.dumps({"strata": strata}))
    settings = {
        "command": "evaluate",
        "data": str(data),
        "predictions": str(predictions),
        "runs": {target: str(runs / target) for target in ("roi", "tumor", "cyst")},
        "shards": str(shards),
        "cascade": {"roi_threshold": 0.5},
    }
    write_metrics(folder / "results", scores, settings, {"case_<99>": "truncated & lost"})
    return Evaluation(folder / "results", settings, scores)


@pytest.fixture(scope="session")
def report(evaluation, tmp_path_factory) -> Path:
    """The report of an evaluation that has everything; beside it the pages of its cases."""
    path = tmp_path_factory.mktemp("report") / "page.html"
    assert page.run(ReportConfig([evaluation.folder], path)) == 0
    return path


@pytest.fixture(scope="session")
def html(report) -> str:
    return report.read_text(encoding="utf-8")


@pytest.fixture
def text_of_report(tmp_path):
    """The text of a report on other scores or settings."""

    def write(scores, settings, skipped=()) -> str:
        write_metrics(tmp_path, scores, settings, dict(skipped))
        assert page.run(ReportConfig([tmp_path])) == 0
        return text_of((tmp_path / "report.html").read_text(encoding="utf-8"))

    return write


def _heard(truth: np.ndarray, predicted: np.ndarray, level: int) -> Heard:
    """Decoders that are equally sure of all that they call theirs, asked about half of each slice."""
    asked, counts = slice(truth.shape[2] // 2), {target: np.zeros((2, 256), np.int64) for target in TARGETS}
    for target in TARGETS:
        is_true, said = (target_mask(labels, target)[..., asked].astype(int) for labels in (truth, predicted))
        np.add.at(counts[target], (is_true, said * level), 1)
    return Heard(np.full((predicted >= 2).sum(), level, np.uint8), counts)


def _log_line(number: int) -> str:
    step = number * 10
    line = {
        "step": step,
        "loss": 1 / number,
        "dice_loss": 0.5,
        "cross_entropy": 0.2,
        "learning_rate": 5e-5,
        "slices_per_second": 9.0,
    }
    text = json.dumps({**line, "drawn": {"kidney": 30, "tumor": 10}}) + "\n"
    if number % 6 == 0:
        text += json.dumps({"step": step, "val_dice": 0.9 - 1 / number, "val_dice_pooled": 0.8}) + "\n"
    return text
