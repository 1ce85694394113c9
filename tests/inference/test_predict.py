import itertools
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from PIL import Image
from safetensors.torch import load_file

from kitsam.ct.volume import read_image
from kitsam.inference import bundle
from kitsam.inference import predict as prediction
from kitsam.inference.bundle import read_bundle
from kitsam.inference.config import BundleConfig, CascadeConfig, PredictConfig
from kitsam.inference.labelling import canonical_boxes
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.tensors import read_tensors, write_tensors

REAL_CT = Path(__file__).parents[2] / "shared" / "data" / "ct" / "abdomen_ct.nii.gz"


@pytest.fixture(scope="session")
def model(runs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    # Decoders trained for six steps are unsure: low thresholds make them say something.
    cascade = CascadeConfig(roi_threshold=0.3, lesion_threshold=0.2, smallest_roi=0.01, smallest_lesion=0.0)
    assert bundle.run(BundleConfig(runs["roi"], path, runs["tumor"], runs["cyst"], cascade)) == 0
    return path


def predict(scans: list[Path], model: Path, out: Path, boxes: Path | None = None) -> int:
    return prediction.run(PredictConfig(scans, model, out, boxes, device="cpu"))


@pytest.fixture
def ct(data) -> Path:
    return data / "case_00000" / "imaging.nii.gz"


def reoriented(path: Path, codes: str, out: Path) -> Path:
    image = nib.load(path)
    change = ornt_transform(io_orientation(image.affine), axcodes2ornt(codes))
    voxels = apply_orientation(np.asanyarray(image.dataobj), change)
    nib.save(nib.Nifti1Image(voxels, image.affine @ inv_ornt_aff(change, image.shape)), out)
    return out


def labels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


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
    ]


def test_two_scans_of_one_name_are_refused(model, ct, tmp_path):
    shutil.copytree(ct.parent, tmp_path / "case_00000")
    with pytest.raises(OptionError, match="two scans are named case_00000"):
        predict([ct, tmp_path / "case_00000"], model, tmp_path / "out")


def test_the_bundle_holds_all_that_was_trained(model, runs):
    loaded = read_bundle(model)
    assert loaded.encoder.input_size == 64 and loaded.input.window == (-160.0, 240.0)
    for target in ("roi", "tumor", "cyst"):
        state = loaded.decoders[target].decoder.state_dict()
        assert all(
            torch.equal(value, state[name]) for name, value in load_file(runs[target] / "decoder.safetensors").items()
        )


def test_what_is_no_bundle_is_refused_by_name(runs, ct, tmp_path):
    with pytest.raises(OptionError, match="--model: no such file"):
        predict([ct], tmp_path / "none", tmp_path)
    with pytest.raises(KitsamError, match="decoder.safetensors: not a bundle"):
        predict([ct], runs["roi"] / "decoder.safetensors", tmp_path)


def test_runs_of_different_encoders_make_no_bundle(runs, tmp_path):
    other = tmp_path / "tumor"
    shutil.copytree(runs["tumor"], other)
    tensors, header = read_tensors(other / "decoder.safetensors")
    header["shard_set"]["signature"]["encoder"]["input_size"] = 128
    write_tensors(other / "decoder.safetensors", tensors, header)
    with pytest.raises(KitsamError, match="encoder input_size is 128"):
        bundle.run(BundleConfig(runs["roi"], tmp_path / "model", other))
    assert not (tmp_path / "model").exists()
