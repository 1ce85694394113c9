"""Whence a case is: marks in headers, and KiTS23's cases by their names and labels."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from kitsam.ct.origin import kits23_digest, mark_of, origin_of
from kitsam.phantom.cases import run
from kitsam.phantom.config import PhantomConfig

FIRST_CASE = "case_00000", (854483, 20462, 0)  # voxels of kidney, tumor, cyst


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """A drawn scan, one rendered over its labels, and one of neither."""
    folder = tmp_path_factory.mktemp("made")
    run(PhantomConfig(folder / "drawn", cases=1, size=48, slices=8))
    run(PhantomConfig(folder / "rendered", labels=folder / "drawn"))
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), folder / "scan.nii.gz")
    paths = {name: folder / name / "case_00000" / "imaging.nii.gz" for name in ("drawn", "rendered")}
    return {**paths, "scan": folder / "scan.nii.gz"}


def test_what_was_drawn_or_rendered_bears_its_mark_and_a_scan_bears_none(made):
    marks = {name: mark_of(path) for name, path in made.items()}
    assert marks == {"drawn": "drawn", "rendered": "rendered", "scan": None}


def test_a_file_that_cannot_be_read_bears_no_mark(tmp_path):
    (tmp_path / "scan.nii.gz").write_bytes(b"no NIfTI")
    assert mark_of(tmp_path / "scan.nii.gz") is None and mark_of(tmp_path / "absent.nii.gz") is None


def test_a_case_of_kits23_is_known_by_its_name_and_labels_together(made):
    name, voxels = FIRST_CASE
    assert origin_of(name, made["scan"], voxels) == "kits23"
    assert origin_of(name, made["scan"], (voxels[0] + 1, *voxels[1:])) == "scan"
    assert origin_of("case_00001", made["scan"], voxels) == "scan"


def test_a_ct_over_labels_of_kits23_is_rendered_also_under_the_mark_of_an_older_version(made):
    assert origin_of(*FIRST_CASE[:1], made["rendered"], FIRST_CASE[1]) == "rendered"
    assert origin_of(*FIRST_CASE[:1], made["drawn"], FIRST_CASE[1]) == "rendered"
    assert origin_of("case_00000", made["drawn"], (1, 2, 3)) == "drawn"


def test_a_digest_depends_on_all_that_it_is_of():
    variants = [("a", (1, 2, 3)), ("b", (1, 2, 3)), ("a", (12, 3, 3)), ("a", (1, 23, 3)), ("a", (1, 2, 4))]
    assert len({kits23_digest(*one) for one in variants}) == len(variants)
