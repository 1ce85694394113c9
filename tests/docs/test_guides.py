"""What the guides show runs as it stands: blocks that say so, the lines of Python, the file of options."""

import pytest
from options_page import options_class
from pages import blocks, kitsam_words, words_of

from kitsam.cli import main
from kitsam.inference import bundle
from kitsam.inference.config import BundleConfig
from kitsam.system.command_line import read_command_line


@pytest.mark.parametrize("block", [block for block in blocks("bash") if block.runs], ids=lambda block: block.page.name)
def test_a_block_runs_in_an_empty_folder(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in words_of(block.text):
        words = kitsam_words(command)
        assert words is not None, command
        assert main(words) == 0, words
    assert (tmp_path / "results" / "report.html").exists() and (tmp_path / "labels" / "case_00000.nii.gz").exists()


def test_the_lines_of_python_run(data, shards, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, part in (("scan.nii.gz", "imaging"), ("truth.nii.gz", "segmentation")):
        (tmp_path / name).symlink_to(data / "case_00000" / f"{part}.nii.gz")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "kits23").symlink_to(shards)
    assert bundle.run(BundleConfig(runs["roi"], tmp_path / "kidney.safetensors", runs["tumor"], runs["cyst"])) == 0
    (block,) = blocks("python")
    exec(compile(block.text, str(block.page), "exec"), {})
    assert (tmp_path / "labels" / "scan.nii.gz").exists()
    assert "kidney_and_masses_Dice" in capsys.readouterr().out


def test_a_file_of_options_is_understood(tmp_path):
    (block,) = blocks("yaml")
    (tmp_path / "FILE").write_text(block.text, encoding="utf-8")
    first = block.text.splitlines()[0].lstrip("# ").replace("FILE", str(tmp_path / "FILE"))
    name, *words = kitsam_words(first.split())
    config = read_command_line(f"kitsam {name}", options_class(name), words)
    assert (config.encoder.name, config.batch_size) == ("lite_medsam", 8)
