import os
import subprocess
import sys
import time
from dataclasses import fields, is_dataclass

import pytest

from kitsam.cli import COMMANDS, _named, main


@pytest.fixture
def said(capsys):
    """Run a command line; give back its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


def test_help_lists_every_command_at_once_and_without_torch():
    code = (
        "import sys; from kitsam.cli import main; main(['--help']); "
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    began = time.monotonic()
    text = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert time.monotonic() - began < 5
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0 and f"usage: kitsam {name}" in text
    for field, explanation in explanations(_named(COMMANDS[name].config)).items():
        assert explanation and " ".join(explanation.split()) in text, field


def explanations(dataclass: type) -> dict[str, str]:
    """The text under every field, those of nested dataclasses included."""
    from docstring_parser import parse_from_object

    texts = {text.arg_name: text.description for text in parse_from_object(dataclass).params}
    found = {}
    for field in fields(dataclass):
        found.update(explanations(field.type) if is_dataclass(field.type) else {field.name: texts.get(field.name)})
    return found


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["embed", "--data", "/nowhere", "--out", "x", "--encoder.name", "tiny"], "--data: no such folder: /nowhere"),
        (["embed", "--data", ".", "--out", "x", "--color", "red"], "--color"),
        (["embed", "--data", ".", "--out", "x", "--views.count", "many"], "views.count"),
        (["train", "--target", "roi", "--shards", ".", "--out", "x", "--step", "3"], "--step"),
        (["embed", "--out", "x"], "data"),
        (["embed", "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["embed", "--data", ".", "--out", "x", "--encoder.name", "vit_x"], "encoder.name"),
        (["train", "--target", "roi", "--shards", "/nowhere", "--out", "x"], "--shards: no such folder: /nowhere"),
        (["predict", "/nowhere.nii.gz", "--model", "m", "--out", "x"], "/nowhere.nii.gz"),
        (["shards", "verify", "/nowhere"], "/nowhere"),
        (["shards"], "shards info or shards verify"),
        (["embezzle"], "embezzle"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(said, arguments, named):
    code, out, err = said(*arguments)
    assert code == 2 and out == ""
    assert err.startswith("kitsam") and "error:" in err and named in err and err.count("\n") == 1


def test_an_unknown_key_in_a_file_is_one_line_that_names_it(said, tmp_path):
    path = tmp_path / "embed.yaml"
    path.write_text("data: .\nout: x\nviews: {cuont: 2}\n")
    code, _, err = said("embed", "--config", path)
    assert code == 2 and "cuont" in err and err.count("\n") == 1


def test_options_override_the_file(tmp_path, monkeypatch):
    path = tmp_path / "embed.yaml"
    (tmp_path / "case_00000").mkdir()
    (tmp_path / "case_00000" / "imaging.nii.gz").touch()
    path.write_text(f"data: {tmp_path}\nout: x\nviews: {{count: 2, scale: 0.3}}\ninput: {{window: [0, 80]}}\n")
    seen = []
    from kitsam.embedding import run as embedding

    monkeypatch.setattr(embedding, "run", lambda config: seen.append(config) or 0)
    assert main(["embed", "--config", str(path), "--views.count", "5", "--dry-run"]) == 0
    options = seen[0]
    assert (options.views.count, options.views.scale, options.input.window, options.dry_run) == (
        5,
        0.3,
        (0.0, 80.0),
        True,
    )
    assert options.encoder.name == "vit_b" and str(options.out) == "x"


@pytest.mark.parametrize("name", ["embed", "roi", "tumor", "cyst", "evaluate"])
@pytest.mark.parametrize("folder", ["", "small/", "paper/", "lite/", "lite/kits23/"])
def test_the_configs_in_the_project_are_valid(folder, name, monkeypatch):
    from kitsam.cli import _parse

    root = os.path.join(os.path.dirname(__file__), "..", "configs")
    command = name if name in ("embed", "evaluate") else "train"
    rest = {
        "embed": ["--data", ".", "--out", "x"],
        "evaluate": ["--data", "."],
        "train": ["--shards", "x", "--out", "x"],
    }[command]
    options = _parse(command, ["--config", f"{root}/{folder}{name}.yaml", *rest])
    assert command != "train" or options.target == name


def test_an_error_of_a_command_is_one_line_and_exit_code_1(said, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"nothing")
    scan = tmp_path / "a.nii.gz"
    scan.write_bytes(b"nothing")
    code, _, err = said("predict", scan, "--model", path, "--out", tmp_path / "out")
    assert code == 1 and str(path) in err and err.count("\n") == 1


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(shards, tmp_path):
    # No file may grow past a megabyte: what a full disk does to the decoder's 16.
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20)); "
        "from kitsam.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = f"--target roi --shards {shards} --out {tmp_path / 'run'} --steps 1 --batch_size 2 --device cpu"
    ended = subprocess.run(
        [sys.executable, "-c", code, "train", *words.split()], check=False, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert "decoder.safetensors: cannot be written" in ended.stderr.splitlines()[-1] and "Traceback" not in ended.stderr
    assert not [path for path in (tmp_path / "run").rglob("*") if path.stat().st_size >= 2**20 or "tmp" in path.name]
