"""`kitsam COMMAND --help`, as someone new to it reads it."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from kitsam.cli import COMMANDS, _named, main
from kitsam.system.command_line import in_the_users_spelling, read_command_line
from kitsam.system.options import DEVICES, Device, Options, count, number, place


@pytest.fixture
def help_of(capsys):
    def read(name: str) -> str:
        with pytest.raises(SystemExit):
            main([*name.split(), "--help"])
        return capsys.readouterr().out

    return read


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_one_example_one_description_dashes_and_no_type_of_python(name, help_of):
    text, kind = help_of(name), _named(COMMANDS[name].config)
    assert text.splitlines().count(f"  {kind.example}") == 1 and kind.example.startswith(f"kitsam {name}")
    joined = " ".join(text.split())
    assert joined.count(" ".join(kind.__doc__.split())) == 1
    assert not re.search(r"<class|Literal|Optional|Union|NoneType|\bnull\b|type:|==SUPPRESS==", text)
    assert not re.search(r"(?<!torchrun )--(?!nproc_per_node)[a-z.]+_", text)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_is_a_line_that_the_command_takes(name, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    words = shlex.split(_named(COMMANDS[name].config).example.partition(">")[0])[1 + len(name.split()) :]
    read_command_line(f"kitsam {name}", _named(COMMANDS[name].config), words)


@dataclass
class Few(Options, example="kitsam few --out x"):
    """A few options."""

    out: Path = place("new folder")
    """where to"""
    some_size: int = count(3)
    """how large"""
    least: int = number(0, least=0)
    """not less"""
    device: Device = "auto"
    """which"""
    fast: bool = False
    """whether it hurries"""


def test_what_must_be_given_stands_first_and_defaults_behind_the_text(capsys):
    with pytest.raises(SystemExit):
        read_command_line("kitsam few", Few, ["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: kitsam few --out OUT [options]"
    text = "\n".join(lines)
    assert re.search(r"must be given:\n  --out OUT +where to\n\noptions:\n", text)
    assert re.search(r"  --some-size N +how large \(default: 3\)\n", text)
    assert re.search(r"  --least N +not less \(default: 0\)\n", text)
    assert re.search(r"  --fast +whether it hurries\n", text)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--some-size", "x"], "--some-size: no, see --other-one"),
        (["--some_size=x"], "--some_size: no, see --other-one"),
        (["--config", "f"], "--some_size: no, see --other_one"),
        (["--config", "f", "--some-size=1"], "--some-size: no, see --other_one"),
    ],
)
def test_an_error_names_an_option_as_the_user_wrote_it(words, expected):
    assert in_the_users_spelling("--some_size: no, see --other_one", words) == expected


def test_a_path_that_looks_like_an_option_stays_as_it_is():
    assert in_the_users_spelling("/data/a--b_c: no such file", []) == "/data/a--b_c: no such file"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train --target rio", "--target: must be one of roi, tumor, cyst, not rio: did you mean roi?"),
        ("embed --encoder.name lite_medsm", "not lite_medsm: did you mean lite_medsam?"),
        ("embed --device cuda:x", f"--device: must be {DEVICES}, not cuda:x"),
    ],
)
def test_a_wrong_word_comes_with_the_one_that_may_be_meant(words, message, capsys):
    assert main(words.split()) == 2
    assert message in capsys.readouterr().err


def test_a_model_that_is_no_file_may_be_meant_for_an_encoder(tmp_path, capsys):
    (tmp_path / "a.nii.gz").touch()
    assert main(["predict", str(tmp_path / "a.nii.gz"), "--model", "lite_medsm", "--out", str(tmp_path / "out")]) == 2
    assert "--model: no such file: lite_medsm: did you mean lite_medsam?" in capsys.readouterr().err
