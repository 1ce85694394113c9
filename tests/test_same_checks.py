"""What a scan and its labels must be, and what is told of them, is alike for every command."""

import json

import nibabel as nib
import numpy as np
import pytest
from tiny import IPL, draw_case, embed_config, write_case, write_cases

from kitsam.ct.config import FingerprintConfig
from kitsam.ct.fingerprint import run as fingerprint
from kitsam.embedding import work
from kitsam.embedding.run import run as embed
from kitsam.evaluation.config import EvaluateConfig, ScoreConfig
from kitsam.evaluation.evaluate import run as evaluate
from kitsam.evaluation.score import run as score

FLIPPED = IPL * np.array([[1], [1], [-1], [1]])
PLACE = "does not lie where its scan lies"


def turn_labels(case):
    """Store them as lying the other way round."""
    path = case / "segmentation.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), FLIPPED), path)


@pytest.fixture
def cases(tmp_path):
    """A data set of this test's own."""
    return write_cases(tmp_path / "cases")


def test_labels_that_lie_elsewhere_are_left_out_by_fingerprint_and_embed(cases, tmp_path, capsys):
    turn_labels(cases / "case_00001")

    assert fingerprint(FingerprintConfig(cases, tmp_path / "out")) == 1
    assert PLACE in json.loads((tmp_path / "out" / "fingerprint.json").read_text())["left_out"]["case_00001"]
    assert embed(embed_config(cases, tmp_path / "set", dry_run=True)) == 1
    assert not (tmp_path / "set").exists()
    assert embed(embed_config(cases, tmp_path / "set")) == 1
    assert PLACE in json.loads((tmp_path / "set" / "manifest.json").read_text())["skipped"]["case_00001"]
    assert capsys.readouterr().err.count("case_00001 is left out") == 3


def test_a_scan_that_was_turned_after_the_plan_is_left_out_at_work(cases, tmp_path, monkeypatch):
    read, case = work.read_case, cases / "case_00001"

    def turn_and_read(files):
        path = case / "imaging.nii.gz"
        nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), FLIPPED), path)
        return read(files)

    monkeypatch.setattr(work, "read_case", turn_and_read)
    assert embed(embed_config(cases, tmp_path / "set")) == 1
    assert PLACE in json.loads((tmp_path / "set" / "manifest.json").read_text())["skipped"]["case_00001"]


def test_evaluate_and_score_leave_out_what_lies_elsewhere(cases, shards, runs, tmp_path):
    val, *_ = json.loads((shards / "manifest.json").read_text())["split"]["val"]
    path = cases / val / "imaging.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), FLIPPED), path)

    assert evaluate(EvaluateConfig(str(shards), cases, tmp_path / "results", runs["roi"])) == 1
    assert PLACE in json.loads((tmp_path / "results" / "metrics.json").read_text())["skipped"][val]
    (predictions := tmp_path / "predictions").mkdir()
    for case in cases.iterdir():
        (predictions / f"{case.name}.nii.gz").write_bytes((case / "segmentation.nii.gz").read_bytes())
    assert score(ScoreConfig(predictions, cases, tmp_path / "scores", workers=1)) == 1
    assert PLACE in json.loads((tmp_path / "scores" / "metrics.json").read_text())["skipped"][val]


def test_a_doubt_is_told_once_for_a_scan_by_fingerprint_and_embed(cases, tmp_path, capsys):
    image, label = draw_case(99)
    write_case(cases / "case_00099", (image + 1024).clip(0), label)

    assert fingerprint(FingerprintConfig(cases, tmp_path / "out")) == 0
    assert "case_00099/imaging.nii.gz: hardly any air" in capsys.readouterr().err
    assert list(json.loads((tmp_path / "out" / "fingerprint.json").read_text())["outliers"])
    assert embed(embed_config(cases, tmp_path / "set")) == 0
    said = capsys.readouterr().err
    assert said.count("hardly any air") == 1 and "case_00099/imaging.nii.gz: hardly any air" in said
