"""The newcomer's first command: quickly with little of everything, and, slow, as it is."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kitsam import demo
from kitsam.ct.case import find_cases
from kitsam.ct.labels import KIDNEY, TUMOR
from kitsam.ct.volume import read_label
from kitsam.evaluation.metrics import score_case
from kitsam.system.errors import OptionError

LITTLE = demo.Sizes(
    cases=8, side=64, slices=16, input_size=96, roi_steps=60, tumor_steps=4, cyst_steps=4, roi_validation=60,
    lesion_validation=4,
)  # fmt: skip


def test_the_whole_flow_ends_in_a_report_and_finds_kidneys_better_than_their_box_does(tmp_path, capsys):
    out = tmp_path / "demo"
    assert demo.run(demo.DemoConfig(out), LITTLE) == 0
    check_end(out, capsys.readouterr().out)
    found = read_metrics(out)["summary"]["kidney_and_masses_Dice"]
    assert found > mean_score(out, box_of_kidneys, "kidney_and_mass_dice")


def test_a_pretrained_encoder_is_asked_for_before_anything_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setenv("KITSAM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(OptionError, match="kitsam weights lite_medsam"):
        demo.run(demo.DemoConfig(tmp_path / "demo", "lite_medsam"))
    assert not any(tmp_path.iterdir())


@pytest.fixture(scope="module")
def full_demo(tmp_path_factory) -> tuple[Path, str]:
    """The demo's folder and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    # With the machine to itself, as a newcomer has it.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-m", "kitsam", "demo", "--out", str(out)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=550)
    return out, ended.stdout


@pytest.mark.slow
def test_it_finds_kidneys_and_tells_tumors_from_kidney(full_demo):
    out, _ = full_demo
    summary = read_metrics(out)["summary"]
    assert summary["kidney_and_masses_Dice"] >= 0.75
    assert summary["tumor_Dice"] > mean_score(out, everything_tumor, "tumor_dice")


@pytest.mark.slow
def test_it_ends_in_a_table_and_a_report(full_demo):
    check_end(*full_demo)


def check_end(out: Path, text: str) -> None:
    assert "kidney and masses Dice" in text and "tumor Dice" in text
    assert str(out / "results" / "report.html") in text.splitlines()[-1]
    report = (out / "results" / "report.html").read_text()
    assert report.startswith("<!doctype html>") and "case_000" in report


def read_metrics(out: Path) -> dict:
    return json.loads((out / "results" / "metrics.json").read_text())


def mean_score(out: Path, claim: Callable[[np.ndarray], np.ndarray], figure: str) -> float:
    """Of the evaluated cases, if the answer were `claim` of the truth."""
    files = find_cases(out / "data")
    truths = [read_label(files[case["case"]].segmentation) for case in read_metrics(out)["cases"]]
    return np.mean([getattr(score_case(one.voxels, claim(one.voxels), one.spacing), figure) for one in truths])


def everything_tumor(truth: np.ndarray) -> np.ndarray:
    return np.where(truth > 0, TUMOR, 0).astype(np.uint8)


def box_of_kidneys(truth: np.ndarray) -> np.ndarray:
    """All that lies between the outermost voxels of the kidneys, which is more than anyone knows beforehand."""
    box = np.zeros_like(truth)
    box[tuple(slice(places.min(), places.max() + 1) for places in np.nonzero(truth))] = KIDNEY
    return box
