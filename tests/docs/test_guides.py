"""The blocks that say so run as they stand, one after another, in an empty folder."""

import pytest
from pages import blocks, kitsam_words, words_of

from kitsam.cli import main


@pytest.mark.parametrize("block", [b for b in blocks("bash") if b.runs], ids=lambda block: block.page.name)
def test_a_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in words_of(block.text):
        words = kitsam_words(command)
        assert words is not None, command
        assert main(words) == 0, words
    assert (tmp_path / "results" / "report.html").exists() and (tmp_path / "labels" / "case_00000.nii.gz").exists()
