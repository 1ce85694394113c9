"""What was given is never written over, by whatever name."""

import os

import pytest

from kitsam.system.errors import OptionError
from kitsam.system.outputs import files_in, refuse_overwriting


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "data" / "scan.nii.gz"
    path.parent.mkdir()
    path.write_bytes(b"a patient")
    return path


def test_an_output_that_is_an_input_is_refused_with_both_names(scan, monkeypatch):
    monkeypatch.chdir(scan.parent)
    with pytest.raises(OptionError) as refusal:
        refuse_overwriting([scan.parent / "other", scan.relative_to(scan.parent)], [None, scan])
    assert str(refusal.value).startswith("--out: scan.nii.gz ") and str(scan) in str(refusal.value)


@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("turned", [False, True])
def test_links_hide_nothing(scan, tmp_path, link, turned):
    other = tmp_path / "other.nii.gz"
    link(scan, other)
    outputs, inputs = ([scan], [other]) if turned else ([other], [scan])
    with pytest.raises(OptionError, match="--model: .* would replace what was given"):
        refuse_overwriting(outputs, inputs, "--model")


def test_a_folder_that_is_linked_hides_nothing(scan, tmp_path):
    (tmp_path / "out").symlink_to(scan.parent)
    with pytest.raises(OptionError):
        refuse_overwriting([tmp_path / "out" / "scan.nii.gz"], [scan])
    with pytest.raises(OptionError):
        refuse_overwriting([tmp_path / "out" / ".." / "data"], [scan.parent])


def test_a_name_that_differs_in_case_is_the_same_file_where_the_file_system_says_so(scan, monkeypatch):
    upper = scan.with_name("SCAN.nii.gz")
    refuse_overwriting([upper], [scan])
    # As on macOS and Windows.
    real_stat, real_lexists = os.stat, os.path.lexists
    monkeypatch.setattr(os, "stat", lambda path, **how: real_stat(str(path).replace("SCAN", "scan"), **how))
    monkeypatch.setattr(os.path, "lexists", lambda path: real_lexists(str(path).replace("SCAN", "scan")))
    with pytest.raises(OptionError, match="SCAN.nii.gz would replace what was given, .*scan.nii.gz"):
        refuse_overwriting([upper], [scan])


def test_new_files_beside_the_input_are_no_matter(scan):
    refuse_overwriting([scan.with_name("scan.png"), scan.parent / "new" / "scan.nii.gz"], [scan, scan.parent])


def test_the_files_of_a_folder_are_all_those_below_it(scan, tmp_path):
    assert files_in(tmp_path) == [scan] and files_in(tmp_path / "nowhere") == []
