"""The newcomer's first command, whole: some minutes on two cores."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kitsam.ct.case import find_cases
from kitsam.ct.labels import TUMOR
from kitsam.ct.volume import read_label
from kitsam.evaluation.metrics import score_case


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    """The demo's folder and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    # One run with the machine to itself, as a newcomer has it.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-m", "kitsam", "demo", "--out", str(out)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=550)
    return out, ended.stdout


def test_it_finds_kidneys_and_tells_tumors_from_kidney(demo):
    out, _ = demo
    metrics = json.loads((out / "results" / "metrics.json").read_text())
    assert metrics["summary"]["kidney_and_masses_Dice"] >= 0.75
    files = find_cases(out / "data")
    everything_tumor = []
    for case in metrics["cases"]:
        truth = read_label(files[case["case"]].segmentation)
        claim = np.where(truth.voxels > 0, TUMOR, 0).astype(np.uint8)
        everything_tumor.append(score_case(truth.voxels, claim, truth.spacing).tumor_dice)
    assert metrics["summary"]["tumor_Dice"] > np.mean(everything_tumor)


def test_it_ends_in_a_table_and_a_report(demo):
    out, text = demo
    assert "kidney and masses Dice" in text and "tumor Dice" in text
    assert str(out / "results" / "report.html") in text.splitlines()[-1]
    report = (out / "results" / "report.html").read_text()
    assert report.startswith("<!doctype html>") and "case_000" in report
