import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from label_maps import labels
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from PIL import Image

from kitsam.ct.volume import read_image
from kitsam.inference import predict as prediction
from kitsam.inference.config import PredictConfig
from kitsam.inference.drawn import canonical_boxes
from kitsam.inference.predictions import PredictionRecord
from kitsam.inference.scans import find_scans
from kitsam.system.errors import OptionError
from kitsam.system.seals import read_sealed

REAL_CT = Path(__file__).parents[2] / "shared" / "data" / "ct" / "abdomen_ct.nii.gz"


def predict(scans: list[Path], model: Path, out: Path, boxes: Path | None = None) -> int:
    return prediction.run(PredictConfig(scans, model, out, boxes, device="cpu"))


def reoriented(path: Path, codes: str, out: Path) -> Path:
    image = nib.load(path)
    change = ornt_transform(io_orientation(image.affine), axcodes2ornt(codes))
    voxels = apply_orientation(np.asanyarray(image.dataobj), change)
    nib.save(nib.Nifti1Image(voxels, image.affine @ inv_ornt_aff(change, image.shape)), out)
    return out


def test_the_label_map_has_the_scans_geometry_and_a_picture_beside_it(model, ct, tmp_path, capsys):
    assert predict([ct], model, tmp_path / "out") == 0
    scan, found = nib.load(ct), nib.load(tmp_path / "out" / "case_00000.nii.gz")
    assert found.shape == scan.shape and np.array_equal(found.affine, scan.affine)
    assert found.get_data_dtype() == np.uint8 and set(np.unique(labels(tmp_path / "out" / "case_00000.nii.gz"))) <= {
        0,
        1,
        2,
        3,
    }
    assert labels(tmp_path / "out" / "case_00000.nii.gz").any()
    assert min(Image.open(tmp_path / "out" / "case_00000.png").size) > 100
    assert "case_00000.nii.gz" in capsys.readouterr().out


@pytest.mark.parametrize("codes", ["RAS", "LPI", "PIR", "SAL"])
def test_a_reoriented_scan_gives_the_reoriented_answer(model, ct, tmp_path, codes):
    other = reoriented(ct, codes, tmp_path / "turned.nii.gz")
    assert predict([ct, other], model, tmp_path / "out") == 0
    expected = reoriented(tmp_path / "out" / "case_00000.nii.gz", codes, tmp_path / "expected.nii.gz")
    assert np.array_equal(labels(tmp_path / "out" / "turned.nii.gz"), labels(expected))
    assert np.allclose(nib.load(tmp_path / "out" / "turned.nii.gz").affine, nib.load(other).affine)


@pytest.mark.skipif(not REAL_CT.exists(), reason="the real scan is not at hand")
def test_a_real_scan_is_labelled_in_its_own_frame(model, tmp_path):
    predict([REAL_CT], model, tmp_path)
    scan, found = nib.load(REAL_CT), nib.load(tmp_path / "abdomen_ct.nii.gz")
    assert found.shape == scan.shape and np.array_equal(found.affine, scan.affine)
    assert nib.aff2axcodes(found.affine) == ("R", "A", "S")


@pytest.mark.parametrize(
    "codes", ["".join(c) for axes in itertools.permutations(("RL", "AP", "SI")) for c in itertools.product(*axes)][::5]
)
def test_boxes_in_voxels_of_the_file_lie_on_the_same_tissue_in_the_canonical_frame(tmp_path, codes):
    voxels = np.zeros((9, 11, 13), np.int16)
    voxels[2:5, 3:8, 6:8] = 100
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii.gz")
    path = reoriented(tmp_path / "a.nii.gz", codes, tmp_path / "b.nii.gz")
    inside = np.argwhere(np.asanyarray(nib.load(path).dataobj) == 100)
    volume = read_image(path)
    found = canonical_boxes([[*inside.min(0), *inside.max(0)]], volume.geometry, "boxes")
    painted = np.zeros(volume.voxels.shape, bool)
    for z, (x0, y0, x1, y1) in zip(found.slices, found.boxes.astype(int)):
        painted[z, y0:y1, x0:x1] = True
    assert np.array_equal(painted, volume.voxels == 100)


def test_boxes_given_by_hand_confine_the_answer(model, ct, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"case_00000": [[3, 20, 8, 6, 50, 30]]}))
    assert predict([ct], model, tmp_path / "out", boxes) == 0
    found = labels(tmp_path / "out" / "case_00000.nii.gz")
    outside = np.ones(found.shape, bool)
    outside[3:7, 20:51, 8:31] = False
    assert found.any() and not found[outside].any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ('{"other": []}', "no scan is named other"),
        ('{"case_00000": [[1, 2, 3]]}', "a box is six whole numbers"),
        ("[]", "expected"),
    ],
)
def test_boxes_that_make_no_sense_are_refused(model, ct, tmp_path, text, message):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(text)
    with pytest.raises(OptionError, match=f"--boxes: .*{message}"):
        predict([ct], model, tmp_path / "out", boxes)


def test_a_bad_scan_is_named_and_the_others_are_labelled(model, ct, tmp_path, capsys):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(ct.read_bytes()[:3000])
    assert predict([bad, ct], model, tmp_path / "out") == 1
    assert "bad.nii.gz: cannot be read" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "case_00000.json",
        "case_00000.nii.gz",
        "case_00000.png",
        "labels.ctbl",
        "predictions.json",
        "volumes.csv",
    ]


def test_two_scans_of_one_name_are_refused(model, ct, tmp_path):
    shutil.copytree(ct.parent, tmp_path / "case_00000")
    with pytest.raises(OptionError, match="two scans are named case_00000"):
        predict([ct, tmp_path / "case_00000"], model, tmp_path / "out")


def test_a_tilted_scan_has_its_own_volumes_and_a_warning(model, ct, tmp_path, capsys):
    scan = nib.load(ct)
    affine = scan.affine.copy()
    affine[1, 0] += abs(affine[2, 0]) * np.tan(np.deg2rad(25))
    nib.save(nib.Nifti1Image(np.asanyarray(scan.dataobj), affine), tmp_path / "tilted.nii.gz")
    assert prediction.run(PredictConfig([tmp_path / "tilted.nii.gz"], model, tmp_path / "out")) == 0
    assert capsys.readouterr().err.count("miss a right angle") == 1
    record = read_sealed(tmp_path / "out" / "tilted.json", PredictionRecord)
    found = labels(tmp_path / "out" / "tilted.nii.gz")
    assert record.volumes_ml["kidney"] == pytest.approx((found == 1).sum() * abs(np.linalg.det(affine)) / 1000)
    assert "right angle" in record.doubts[0]


def test_scans_whose_names_differ_in_case_are_refused(tmp_path):
    paths = [tmp_path / "a" / "Scan.nii.gz", tmp_path / "b" / "scan.nii.gz"]
    for path in paths:
        path.parent.mkdir()
        path.touch()
    with pytest.raises(OptionError, match="two scans are named scan, .*a/Scan.nii.gz and .*b/scan.nii.gz"):
        find_scans(paths)


def test_one_of_two_processes_with_a_bad_scan_costs_no_other(model, ct, data, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(ct.read_bytes()[:3000])
    scans = [bad, ct.parent, data / "case_00001"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "kitsam"]
    command += ["predict", *scans, "--model", model, "--out", tmp_path / "out", "--device", "cpu"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1 and "bad.nii.gz: cannot be read" in done.stderr
    assert "1 of 3 scans could not be labelled: bad" in done.stderr
    for name in ("case_00000", "case_00001"):
        assert (tmp_path / "out" / f"{name}.nii.gz").is_file() and f"{name}: kidney" in done.stdout
