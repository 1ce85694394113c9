"""What predict leaves as it is, does again or refuses to write over, by the record beside a label map."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from label_maps import labels

from kitsam.inference import predict as prediction
from kitsam.inference.config import PredictConfig
from kitsam.inference.predictions import PredictionRecord
from kitsam.system.errors import OptionError
from kitsam.system.files import sha256_of
from kitsam.system.seals import read_sealed, write_sealed

TABLES = ("volumes", "predictions", "labels")  # of all scans


def stamps(folder: Path) -> dict[str, int]:
    """Of the files of scans."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.*") if path.stem not in TABLES}


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
