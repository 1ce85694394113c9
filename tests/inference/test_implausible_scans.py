"""Scans that a model of kidneys in CT should not be shown: each is labelled with the warning that fits, or refused."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from kitsam.inference import predict
from kitsam.inference.config import PredictConfig

LARGER = np.diag([3.5, 3.5, 3.5, 1])  # the drawn bodies are as wide as a forearm


@pytest.fixture(scope="module")
def scans(data, tmp_path_factory) -> Path:
    """One scan and what can be wrong with it, in files named for that."""
    folder = tmp_path_factory.mktemp("scans")
    scan = nib.load(data / "case_00000" / "imaging.nii.gz")
    hounsfield, affine = np.asanyarray(scan.dataobj), LARGER @ scan.affine
    rng = np.random.default_rng(0)
    like_mr = np.where(hounsfield < -300, rng.rayleigh(8, hounsfield.shape), 300 - hounsfield).astype(np.int16)
    for name, voxels, axes in (
        ("whole", hounsfield, affine),
        ("mr", like_mr, affine),
        ("shifted", hounsfield + np.int16(1024), affine),
        ("cropped", hounsfield[:, 16:-16, 8:-8], affine),
        ("forearm", hounsfield, scan.affine),
        ("micrometers", hounsfield, np.diag([1000, 1000, 1000, 1]) @ affine),
    ):
        nib.save(nib.Nifti1Image(voxels, axes), folder / f"{name}.nii.gz")
    meters = nib.Nifti1Image(hounsfield, affine)
    meters.header.set_xyzt_units("meter")
    nib.save(meters, folder / "meters.nii.gz")
    return folder


@pytest.fixture(scope="module")
def warnings(model, scans, tmp_path_factory) -> dict[str, str]:
    """What is said of each scan that was labelled."""
    out = tmp_path_factory.mktemp("out")
    assert predict.run(PredictConfig([scans], model, out, device="cpu")) == 1
    content = json.loads((out / "predictions.json").read_text())["scans"]
    return {name: "; ".join([*entry["doubts"], *entry["warnings"]]) for name, entry in content.items()}


def test_each_is_labelled_with_the_warning_that_fits(warnings):
    for name, words in (
        ("mr", "hardly any air (0.0% of the voxels between -1100 and -200 HU): no CT, but MR?"),
        ("shifted", "stored without rescale slope and intercept to Hounsfield units"),
        ("cropped", "the scan is cropped: the body goes on beyond its front, back, right, left edge"),
        ("forearm", " mm wide: a head, a limb or a small child?"),
        ("micrometers", " mm wide: are the lengths in mm?"),
    ):
        assert words in warnings[name] and words not in warnings["whole"]
    # Without air nobody sees where a body ends.
    assert "cropped" not in warnings["mr"] and "wide" not in warnings["shifted"]


def test_one_whose_header_says_meters_is_refused(warnings, model, scans, tmp_path, capsys):
    assert "meters" not in warnings
    assert predict.run(PredictConfig([scans / "meters.nii.gz"], model, tmp_path, device="cpu")) == 1
    assert "meters.nii.gz: the header gives lengths in meters: store them in mm" in capsys.readouterr().err
