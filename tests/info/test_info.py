"""`kitsam info` of each thing that kitsam writes or reads, and of what is none."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from tiny import CASCADE
from tiny_dicom import write_series

from kitsam.cli import main
from kitsam.inference import bundle
from kitsam.inference.config import BundleConfig, CascadeConfig


@pytest.fixture(scope="module")
def model(runs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    bundle.run(BundleConfig(**runs, out=path, cascade=CascadeConfig(**CASCADE), data_name="five abdomens"))
    return path


@pytest.fixture
def told(capsys):
    """What is said of a path, by name; a name may come several times."""

    def tell(path: object) -> list[tuple[str, str]]:
        assert main(["info", str(path)]) == 0
        return [tuple(line.split(": ", 1)) for line in capsys.readouterr().out.splitlines()]

    return tell


@pytest.fixture
def known(capsys):
    """What `--json` knows of a path."""

    def know(path: object) -> dict:
        assert main(["info", str(path), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return know


def test_of_a_bundle_it_shows_the_card(model, shards, told, known):
    rows = told(model)
    assert rows[0] == (str(model), "bundle") and ("training data", "five abdomens, 3 cases") in rows
    assert any(name == "roi" and text.startswith("trained on 3 cases of shard set ") for name, text in rows)
    assert ("encoder's weights", "random") in rows and ("data license", "was not told") in rows
    content, manifest = known(model), json.loads((shards / "manifest.json").read_text())
    assert content["kind"] == "bundle" and content["card"]["data"] == "five abdomens"
    assert sorted(content["shard_sets"]["roi"]["train"]) == manifest["split"]["train"]


def test_of_a_run_it_shows_how_far_it_went_and_how_good_it_was(runs, told, known):
    rows = dict(told(runs["tumor"]))
    assert rows["target"] == "tumor" and rows["steps"] == "6 of 6" and rows["decoder.safetensors"] == "is there"
    lines = [json.loads(line) for line in (runs["tumor"] / "metrics.jsonl").read_text().splitlines()]
    best = max((line["val_dice"], line["step"]) for line in lines if line.get("val_dice") is not None)
    assert rows["best validation Dice"].startswith(f"{best[0]:.4f} at step ")
    content = known(runs["tumor"])
    assert content["steps_done"] == 6 and content["best"][1] == best[0] and content["config"]["batch_size"] == 4
    assert known(runs["tumor"] / "decoder.safetensors")["target"] == "tumor"


def test_a_run_that_has_not_begun_is_a_run(runs, tmp_path, told):
    for name in ("config.yaml", "shard_set.json"):
        shutil.copy(runs["roi"] / name, tmp_path / name)
    rows = dict(told(tmp_path))
    assert rows["steps"] == "0 of 6" and rows["decoder.safetensors"] == "is not there yet"


def test_of_a_shard_set_it_shows_its_cases_and_samples(shards, told, known):
    rows, manifest = dict(told(shards)), json.loads((shards / "manifest.json").read_text())
    samples = sum(entry["samples"] for entry in manifest["train"])
    assert rows["training"].startswith(f"3 cases, {samples} samples in {len(manifest['train'])} shards, ")
    content = known(shards)
    assert content["strata"] == manifest["strata"] and content["fingerprint"] == rows["fingerprint"]
    assert "train" not in content and content["split"]["val"] == manifest["split"]["val"]


def test_of_a_scan_it_shows_where_its_voxels_lie_and_what_is_doubtful(data, tmp_path, told, known):
    path = data / "case_00000" / "imaging.nii.gz"
    rows = dict(told(path.parent))
    assert rows["slices"].startswith("10 of 64 x 64") and "4 mm apart" in rows["slices"]
    assert rows["axes of the file"] == "IPL: towards the patient's feet, back, left" and "doubt" not in rows
    voxels = np.asanyarray(nib.load(path).dataobj)
    hu = known(path)["hu"]
    assert (hu["lowest"], hu["highest"]) == (voxels.min(), voxels.max())
    assert hu["median_of_tissue"] == pytest.approx(np.median(voxels[voxels > -200]))
    nib.save(nib.Nifti1Image(voxels + np.int16(1024), nib.load(path).affine), tmp_path / "shifted.nii.gz")
    assert any(name == "doubt" and "hardly any air" in text for name, text in told(tmp_path / "shifted.nii.gz"))


def test_scans_of_any_format_are_described_alike(data, tmp_path, known):
    scan = nib.load(data / "case_00000" / "imaging.nii.gz")
    voxels = np.asanyarray(scan.dataobj).clip(-1024)  # as a scanner stores them
    nib.save(nib.Nifti1Image(voxels, scan.affine), tmp_path / "a.nii")
    write_series(tmp_path / "series", voxels[::-1])
    for name in ("a.nrrd", "a.mha"):
        sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nii")), str(tmp_path / name))
    found = [known(tmp_path / name) for name in ("a.nii", "a.nrrd", "a.mha", "series")]
    assert [one["format"] for one in found] == ["NIfTI", "NRRD", "MetaImage", "DICOM, 10 files"]
    assert [one["hu"] for one in found] == [found[0]["hu"]] * 4
    assert [one["shape"] for one in found[:3]] == [[10, 64, 64]] * 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "PATH: no such file or folder: "),
        (lambda path: path.write_text("x"), "accepted too: a bundle or decoder (.safetensors), a run's folder"),
        (lambda path: path.mkdir(), "accepted too: a bundle or decoder (.safetensors), a run's folder"),
    ],
)
def test_what_is_none_of_these_is_refused_in_a_line_that_names_them(tmp_path, capsys, make, message):
    make(tmp_path / "thing")
    assert main(["info", str(tmp_path / "thing")]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and message in err


def test_a_folder_of_several_scans_is_refused_by_name(data, capsys):
    assert main(["info", str(data)]) == 2
    assert "a folder of 5 scans, give one of them: " in capsys.readouterr().err


def test_tensors_of_another_program_and_damage_are_told(tmp_path, model, capsys):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, tmp_path / "other.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(model.read_bytes()[:1000])
    for name, words in (("other", "neither a bundle"), ("cut", "cannot be read as safetensors")):
        assert main(["info", str(tmp_path / f"{name}.safetensors")]) == 1
        assert words in capsys.readouterr().err


def test_nothing_waits_for_torch_or_reads_weights(model, runs, shards):
    program = (
        "import sys; from kitsam.cli import main; code = max(main(['info', path]) for path in sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    paths = model, runs["roi"], shards, runs["roi"] / "decoder.safetensors"
    subprocess.run([sys.executable, "-c", program, *paths], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
def test_a_terminal_gets_a_table_that_fits(model):
    import pty

    lead, follow = pty.openpty()
    command = [sys.executable, "-m", "kitsam", "info", str(model)]
    environment = {**os.environ, "COLUMNS": "80", "TERM": "dumb"}
    subprocess.run(command, check=True, stdout=follow, stdin=subprocess.DEVNULL, env=environment)
    os.close(follow)
    lines = os.read(lead, 1 << 16).decode().splitlines()
    os.close(lead)
    assert any("│ training data" in line for line in lines)
    assert max(map(len, lines[1:])) <= 80
