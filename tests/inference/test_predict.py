import itertools
import json
import shutil
import subprocess
import sys
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
from kitsam.inference.drawn import canonical_boxes
from kitsam.inference.predictions import PredictionRecord
from kitsam.inference.scans import find_scans
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import sha256_of
from kitsam.system.seals import read_sealed, write_sealed
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


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_started_again_only_what_is_missing_is_labelled(model, ct, data, tmp_path, capsys):
    out, other = tmp_path / "out", data / "case_00001"
    assert prediction.run(PredictConfig([ct], model, out)) == 0
    before = stamps(out)
    assert prediction.run(PredictConfig([ct, other], model, out)) == 0
    assert before.items() <= stamps(out).items() and (out / "case_00001.nii.gz").is_file()
    assert "case_00000: labelled already" in capsys.readouterr().out


def test_overwrite_labels_anew(model, ct, tmp_path):
    (out := tmp_path / "out").mkdir()
    (out / "case_00000.nii.gz").write_bytes(b"by hand")
    assert prediction.run(PredictConfig([ct], model, out, overwrite=True)) == 0
    before = stamps(out)
    assert prediction.run(PredictConfig([ct], model, out, overwrite=True)) == 0
    assert all(stamps(out)[name] > stamp for name, stamp in before.items())


@pytest.mark.parametrize("name", ["case_00000.nii.gz", "case_00000.png", "case_00000.json"])
def test_a_file_that_predict_did_not_write_is_kept(model, ct, tmp_path, name):
    (out := tmp_path / "out").mkdir()
    (out / name).write_text("{}")
    with pytest.raises(OptionError, match=f"--out: .*{name} has no record .*case_00000/imaging.nii.gz .*--overwrite"):
        prediction.run(PredictConfig([ct], model, out))
    assert (out / name).read_text() == "{}" and len([*out.iterdir()]) == 1


def test_a_label_map_of_another_scan_model_or_box_is_kept(model, ct, data, tmp_path):
    out, scan = tmp_path / "out", tmp_path / "scan.nii.gz"
    shutil.copy(ct, scan)
    assert prediction.run(PredictConfig([scan], model, out)) == 0
    before = stamps(out)
    boxes, other = tmp_path / "boxes.json", tmp_path / "other.safetensors"
    boxes.write_text('{"scan": [[3, 20, 8, 6, 50, 30]]}')
    with pytest.raises(OptionError, match="scan.nii.gz is of other boxes"):
        prediction.run(PredictConfig([scan], model, out, boxes))
    other.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(OptionError, match="scan.nii.gz is of another model"):
        prediction.run(PredictConfig([scan], other, out))
    shutil.copy(data / "case_00001" / "imaging.nii.gz", scan)
    with pytest.raises(OptionError, match="scan.nii.gz is of another scan"):
        prediction.run(PredictConfig([scan], model, out))
    assert stamps(out) == before


@pytest.mark.parametrize("lost", ["nothing", "case_00000.nii.gz", "case_00000.png"])
def test_a_start_that_was_broken_off_is_made_good(model, ct, tmp_path, lost):
    out = tmp_path / "out"
    assert prediction.run(PredictConfig([ct], model, out)) == 0
    whole = labels(out / "case_00000.nii.gz")
    record = json.loads((out / "case_00000.json").read_text())
    if lost == "nothing":
        write_sealed(out / "case_00000.json", {**record, "volumes_ml": None})
    else:
        (out / lost).unlink()
    assert prediction.run(PredictConfig([ct], model, out)) == 0
    assert json.loads((out / "case_00000.json").read_text()) == record
    assert np.array_equal(labels(out / "case_00000.nii.gz"), whole) and (out / "case_00000.png").is_file()


def test_the_record_says_what_a_label_map_was_made_from_and_its_volumes(model, ct, tmp_path, capsys):
    assert prediction.run(PredictConfig([ct], model, tmp_path / "out")) == 0
    record = read_sealed(tmp_path / "out" / "case_00000.json", PredictionRecord)
    assert (record.scan_sha256, record.model_sha256) == (sha256_of(ct), sha256_of(model))
    voxel_ml = abs(np.linalg.det(nib.load(ct).affine)) / 1000
    found = labels(tmp_path / "out" / "case_00000.nii.gz")
    said = capsys.readouterr().out
    for name, kind in (("kidney", 1), ("tumor", 2), ("cyst", 3)):
        assert record.volumes_ml[name] == pytest.approx((found == kind).sum() * voxel_ml)
        assert f"{name} {record.volumes_ml[name]:.1f} mL" in said


def test_what_is_finished_needs_no_torch(model, ct, tmp_path):
    assert prediction.run(PredictConfig([ct], model, tmp_path / "out")) == 0
    program = (
        "import sys; from kitsam.cli import main; "
        "code = main(sys.argv[1:]); assert 'torch' not in sys.modules; sys.exit(code)"
    )
    for scan, code in ((ct, 0), (tmp_path / "nowhere.nii.gz", 2), (tmp_path, 2), (Path(__file__), 2)):
        arguments = ["predict", scan, "--model", model, "--out", tmp_path / "out"]
        done = subprocess.run([sys.executable, "-c", program, *arguments], check=False, capture_output=True, text=True)
        assert done.returncode == code, done.stderr


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


def test_a_folder_without_a_scan_is_told_what_to_do(tmp_path):
    (tmp_path / "IM0001.dcm").touch()
    with pytest.raises(OptionError, match="a folder without imaging.nii.gz, no KiTS case: convert DICOM"):
        find_scans([tmp_path])
    (tmp_path / "scan.nii.gz").touch()
    with pytest.raises(OptionError, match=r"give its files, .*/\*.nii.gz"):
        find_scans([tmp_path])
    with pytest.raises(OptionError, match="not a NIfTI file .*IM0001.dcm: convert DICOM"):
        find_scans([tmp_path / "IM0001.dcm"])


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
