"""The command: what it refuses, where it saves, how it starts and ends."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from urllib.error import HTTPError

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scans import write_scan
from tiny import write_cases

from kitsam.cli import main
from kitsam.ct.scan_files import find_files
from kitsam.view import config as options
from kitsam.view.config import ViewConfig
from kitsam.view.serve import listen, open_session, place_to_save


@pytest.fixture
def scan(tmp_path):
    return write_scan(tmp_path, "LAS")


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("KITSAM_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{nowhere}"], "SCAN: no such file: {nowhere}"),
        (["{cases}"], "holds 2 scans, give one"),
        (["{scan}", "--labels", "{nowhere}"], "--labels: no such file: {nowhere}"),
        (["{scan}", "--model", "{nowhere}"], "--model: no such file: {nowhere}"),
        (["{scan}", "--out", "{scan}"], "--out: {scan} is there already, and kept"),
        (["{scan}", "--out", "labels.png"], "--out: a label map is a .nii.gz or .nii file, not labels.png"),
        (["{scan}", "--port", "70000"], "--port: must be from 0 to 65535, not 70000"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(scan, tmp_path, capsys, words, message):
    places = {"scan": scan, "nowhere": tmp_path / "nowhere.nii.gz", "cases": write_cases(tmp_path / "cases", 2)}
    assert main(["view", *(word.format(**places) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message.format(**places) in error and error.count("\n") == 1


def test_without_the_extra_the_line_says_what_to_install(scan, monkeypatch, capsys):
    monkeypatch.setattr(options, "find_spec", lambda name: None if name == "uvicorn" else True)
    assert main(["view", str(scan)]) == 2
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith('uvicorn not installed, which the viewer needs: pip install "kitsam[view]"')
    )


def test_a_port_in_use_is_named(scan):
    from kitsam.system.errors import OptionError

    with listen(ViewConfig(scan)) as taken:
        port = taken.getsockname()[1]
        assert taken.getsockname()[0] == "127.0.0.1"
        with pytest.raises(OptionError, match=f"--port: {port} cannot be used"):
            listen(ViewConfig(scan, port=port))


def test_labels_are_saved_beside_the_labels_or_the_scan_and_over_nothing(scan, tmp_path):
    (found,) = find_files(scan)
    assert place_to_save(ViewConfig(scan), found) == tmp_path / "scan_labels.nii.gz"
    (tmp_path / "scan_labels.nii.gz").touch()
    assert place_to_save(ViewConfig(scan), found) == tmp_path / "scan_labels-2.nii.gz"
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "given.nii.gz"
    assert place_to_save(ViewConfig(scan, labels=other), found) == tmp_path / "other" / "scan_labels.nii.gz"
    assert place_to_save(ViewConfig(scan, out=tmp_path / "mine.nii"), found) == tmp_path / "mine.nii"


def test_given_labels_are_where_the_session_begins_and_stay_as_they_are(scan, tmp_path, no_weights):
    image = nib.load(scan)
    given = np.random.default_rng(0).integers(0, 4, image.shape).astype(np.uint8)
    path = tmp_path / "given.nii.gz"
    nib.save(nib.Nifti1Image(given, image.affine), path)
    before = path.read_bytes()
    session = open_session(ViewConfig(scan, path))
    assert np.array_equal(session.volume.geometry.in_file_order(session.label), given) and session.model is None
    session.erase_box({"box": [0, 0, 0, *(size - 1 for size in image.shape)], "label": 2})
    session.save()
    assert path.read_bytes() == before
    assert np.array_equal(np.asanyarray(nib.load(session.out).dataobj), np.where(given == 2, 0, given))


def test_labels_of_a_scan_that_is_no_nifti_lie_where_it_lies(scan, tmp_path, no_weights):
    image = sitk.ReadImage(str(scan))
    sitk.WriteImage(image, str(tmp_path / "other.nrrd"))
    session = open_session(ViewConfig(tmp_path / "other.nrrd"))
    session.label[:, :5] = 1
    session.save()
    saved = sitk.ReadImage(str(session.out))
    for name in ("Size", "Spacing", "Origin", "Direction"):
        np.testing.assert_allclose(*(getattr(one, f"Get{name}")() for one in (saved, image)), atol=1e-5)


def test_labels_of_another_scan_are_refused(scan, tmp_path, capsys):
    image = nib.load(scan)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), np.eye(4)), tmp_path / "other.nii.gz")
    assert main(["view", str(scan), "--labels", str(tmp_path / "other.nii.gz"), "--no-browser"]) == 1
    assert "does not lie where its scan lies" in capsys.readouterr().err


def test_the_command_serves_its_address_until_ctrl_c_and_saves_what_was_not(scan, tmp_path):
    environment = {**os.environ, "KITSAM_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "kitsam", "view", str(scan), "--no-browser", "--labels", str(tmp_path / "all.nii")]
    image = nib.load(scan)
    nib.save(nib.Nifti1Image(np.ones(image.shape, np.uint8), image.affine), tmp_path / "all.nii")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            assert process.stdout.readline() == f"labels will be saved to {tmp_path / 'scan_labels.nii.gz'}\n"
            address = re.search(r"http://\S+", process.stdout.readline())[0]
            with urllib.request.urlopen(address) as answer:
                assert "kitsam view" in answer.read().decode()
            with pytest.raises(HTTPError, match="403"):
                urllib.request.urlopen(re.sub(r"/[^/]+/$", "/", address))
            body = b'{"box": [0, 0, 0, 3, 3, 3], "label": 1}'
            erase = urllib.request.Request(f"{address}erase", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(erase) as answer:
                assert answer.status == 200
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0 and out.splitlines()[-1] == "ended" and "Traceback" not in error
    assert (
        error.startswith("warning: no model: nothing can be labelled until") and "kitsam weights lite_medsam" in error
    )
    saved = np.asanyarray(nib.load(tmp_path / "scan_labels.nii.gz").dataobj)
    assert not saved[:4, :4, :4].any() and saved.sum() == saved.size - 64
