"""volumes.csv and predictions.json, of all scans of a folder."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from label_maps import labels

from kitsam import __version__
from kitsam.inference import predict as prediction
from kitsam.inference.config import PredictConfig
from kitsam.inference.tables import COLUMNS
from kitsam.system.errors import OptionError
from kitsam.system.files import sha256_of


def rows_of(out: Path) -> list[dict[str, str]]:
    with open(out / "volumes.csv", newline="") as file:
        return [*csv.DictReader(file)]


def without_time(out: Path) -> list[dict[str, str]]:
    return [{**row, "time": ""} for row in rows_of(out)]


def test_each_scan_has_its_classes_and_each_kidney_and_lesion_a_row(model, data, tmp_path):
    out = tmp_path / "out"
    assert prediction.run(PredictConfig([data], model, out, device="cpu")) == 0
    rows = rows_of(out)
    assert tuple(rows[0]) == COLUMNS
    assert [row["scan"] for row in rows if (row["class"], row["number"]) == ("kidney", "")] == [
        f"case_{number:05d}" for number in range(5)
    ]
    mine = [row for row in rows if row["scan"] == "case_00000"]
    whole = {row["class"]: float(row["volume_ml"]) for row in mine if not row["number"]}
    for name in ("kidney", "tumor", "cyst"):
        parts = [float(row["volume_ml"]) for row in mine if row["class"] == name and row["number"]]
        assert sum(parts) == pytest.approx(whole[name], abs=0.01)
    assert all((row["side"] in ("left", "right", "unclear")) == bool(row["number"]) for row in mine)
    assert {(row["model_sha256"], row["kitsam"]) for row in rows} == {(sha256_of(model), __version__)}
    found = np.flatnonzero((labels(out / "case_00000.nii.gz") > 0).any(axis=(1, 2)))
    assert (mine[0]["first_slice"], mine[0]["last_slice"]) == (str(found[0]), str(found[-1]))
    assert "less than 50" in mine[0]["warnings"]
    scans = json.loads((out / "predictions.json").read_text())["scans"]
    assert len(scans) == 5 and scans["case_00000"]["volumes_ml"]["kidney"] == pytest.approx(whole["kidney"], abs=0.01)
    assert scans["case_00000"]["time"] == mine[0]["time"]
    assert "1 kidney 47 214 181 255" in (out / "labels.ctbl").read_text()


def test_tables_that_somebody_else_wrote_are_kept(model, ct, tmp_path):
    (tmp_path / "volumes.csv").write_text("mine")
    with pytest.raises(OptionError, match=r"volumes.csv was not written by .kitsam predict.: kept"):
        prediction.run(PredictConfig([ct], model, tmp_path))
    assert (tmp_path / "volumes.csv").read_text() == "mine"


def test_a_scan_that_would_take_the_tables_name_is_refused(model, ct, tmp_path):
    (tmp_path / "predictions.nii.gz").write_bytes(ct.read_bytes())
    with pytest.raises(OptionError, match="no scan may be named predictions"):
        prediction.run(PredictConfig([tmp_path / "predictions.nii.gz"], model, tmp_path / "out"))


def test_killed_in_the_middle_only_what_is_missing_is_computed_and_the_tables_are_whole(model, ct, data, tmp_path):
    (scans := tmp_path / "scans").mkdir()
    for number in range(8):
        content = (data / f"case_{number % 5:05d}" / "imaging.nii.gz").read_bytes()
        (scans / f"scan{number}.nii.gz").write_bytes(content)
    out, whole = tmp_path / "out", tmp_path / "whole"
    command = [sys.executable, "-m", "kitsam", "predict", scans, "--model", model, "--device", "cpu", "--out"]
    process = subprocess.Popen([*command, out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(done := [*out.glob("scan*.nii.gz")] if out.exists() else []) < 3 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # A picture comes last but for the record's volumes, so that of the scan before the last all is written.
    finished = {path: path.stat().st_mtime_ns for path in sorted(done)[:-1]}
    again = subprocess.run([*command, out], check=False, capture_output=True, text=True)
    assert again.returncode == 0 and "labelled already" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert prediction.run(PredictConfig([scans], model, whole, device="cpu")) == 0
    assert without_time(out) == without_time(whole) and len({row["scan"] for row in rows_of(out)}) == 8
