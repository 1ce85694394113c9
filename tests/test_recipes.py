"""`kitsam config` and `kitsam launch`, in the project and out of an installed wheel."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from kitsam.cli import COMMANDS, _named, main
from kitsam.embedding.config import EmbedConfig
from kitsam.sam.config import EncoderConfig
from kitsam.system.command_line import read_command_line

ROOT = Path(__file__).parents[1]
SOURCES = ("kitsam", "configs", "launch", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def test_a_recipe_is_printed_as_it_stands(capsys):
    assert main(["config", "lite/roi"]) == 0
    assert capsys.readouterr().out == (ROOT / "configs" / "lite" / "roi.yaml").read_text()


def test_without_a_name_all_are_listed_with_a_word_on_each(capsys):
    assert main(["config"]) == main(["launch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = {line.split()[0] for line in lines if len(line.split()) > 1}
    recipes = {
        path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in (ROOT / "configs").rglob("*.yaml")
    }
    assert names == recipes | {path.name for path in (ROOT / "launch").iterdir()}


def test_a_name_that_is_not_there_is_refused_with_the_one_that_may_be_meant(capsys):
    assert main(["config", "small/roy"]) == 2
    assert capsys.readouterr().err == "kitsam config: error: NAME: no small/roy here: did you mean small/roi?\n"


def test_launchers_are_written_as_they_are_and_never_over_another_file(tmp_path, capsys):
    assert main(["launch", "--out", str(tmp_path)]) == main(["launch", "--out", str(tmp_path)]) == 0
    for path in (ROOT / "launch").iterdir():
        assert (tmp_path / path.name).read_text() == path.read_text()
        assert os.access(tmp_path / path.name, os.X_OK) == path.read_text().startswith("#!")
    (tmp_path / "cpu.sh").write_text("mine")
    assert main(["launch", "cpu.sh", "--out", str(tmp_path)]) == 2
    assert (tmp_path / "cpu.sh").read_text() == "mine" and "another file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["embed", "roi", "tumor", "cyst"])
def test_what_is_not_given_is_the_recommended_recipe(name):
    command, words = ("embed", ["--data", "x"]) if name == "embed" else ("train", ["--shards", "x", "--target", name])
    kind = _named(COMMANDS[command].config)
    config = ["--config", str(ROOT / "configs" / f"{name}.yaml")]
    bare, full = (read_command_line(command, kind, [*words, "--out", "y", *more]) for more in ([], config))
    assert bare == full


def test_an_encoder_that_was_trained_on_gray_pictures_is_shown_gray_ones():
    shown = {name: EmbedConfig(Path(), Path(), EncoderConfig(name)).input.channels for name in ("vit_b", "lite_medsam")}
    assert shown == {"vit_b": "windows", "lite_medsam": "gray"}


@pytest.fixture(scope="session")
def installed(once) -> Path:
    """The wheel that pip builds of this project, installed to a folder of its own without what it needs."""
    if find_spec("setuptools") is None:
        pytest.skip("setuptools builds the wheel")

    def build(folder: Path) -> None:
        for name in SOURCES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, folder / "source" / name)
        pip(folder, "wheel", "--no-build-isolation", "-w", "wheel", "./source")
        (wheel,) = (folder / "wheel").glob("kitsam-*.whl")
        pip(folder, "install", "--target", "site", wheel)

    return once("installed", build) / "site"


def pip(folder: Path, command: str, *words: object) -> None:
    line = [sys.executable, "-m", "pip", command, "--no-deps", "--no-index", "-q", *map(str, words)]
    ended = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_wheel_holds_every_file_of_the_package_the_recipes_and_the_launchers(installed):
    for folder, place in (("kitsam", "kitsam"), ("configs", "kitsam/configs"), ("launch", "kitsam/launch")):
        paths = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        for path in paths:
            there = installed / place / path.relative_to(ROOT / folder)
            assert there.read_bytes() == path.read_bytes(), there
    assert not (installed / "configs").exists() and not (installed / "launch").exists()


@pytest.mark.parametrize(("words", "file"), [("config roi", "configs/roi.yaml"), ("launch cpu.sh", "launch/cpu.sh")])
def test_the_installed_wheel_gives_them_too(installed, tmp_path, words, file):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    code = "import sys, kitsam.cli; print(kitsam.__file__, file=sys.stderr); sys.exit(kitsam.cli.main(sys.argv[1:]))"
    ended = subprocess.run(
        [sys.executable, "-c", code, *words.split()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stderr.startswith(str(installed)) and ended.stdout == (ROOT / file).read_text()
