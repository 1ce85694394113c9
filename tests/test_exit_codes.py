"""What a script can tell from how a command ended: 0 done, 1 failed, 2 refused, 130 broken off."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import LONG

from kitsam.cli import main
from kitsam.system.errors import CaseError, KitsamError, OptionError, ShardError

KITSAM = (sys.executable, "-m", "kitsam")


@pytest.mark.parametrize(
    ("error", "code"), [(OptionError("no"), 2), (KitsamError("no"), 1), (CaseError("no"), 1), (ShardError("no"), 1)]
)
def test_a_refusal_is_told_from_a_failure(monkeypatch, shards, error, code):
    from kitsam.shards import info

    def end(config) -> int:
        raise error

    monkeypatch.setattr(info, "run", end)
    assert main(["shards", "info", str(shards)]) == code


def test_what_is_there_but_damaged_is_a_failure(shards, tmp_path, capsys):
    shutil.copytree(shards, tmp_path / "set")
    (tmp_path / "set" / "manifest.json").write_text("{")
    assert main(["shards", "info", str(tmp_path / "set")]) == 1
    assert str(tmp_path / "set" / "manifest.json") in capsys.readouterr().err


@pytest.mark.parametrize("words", [["fingerprint", "{data}", "--out", "{out}"], ["train", "--help"], ["--help"]])
def test_a_closed_pipe_changes_neither_the_work_nor_its_exit_code(data, tmp_path, words):
    words = [word.format(data=data, out=tmp_path) for word in words]
    process = subprocess.Popen([*KITSAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=120) == 0 and "Traceback" not in err and "pipe" not in err.lower()
    if words[0] == "fingerprint":
        assert {path.name for path in tmp_path.iterdir()} == {"fingerprint.json", "fingerprint.png"}


def test_names_that_a_terminal_cannot_show_cost_no_result(data, tmp_path):
    shutil.copytree(data / "case_00000", tmp_path / "data" / "Fall Müller")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    command = [*KITSAM, "fingerprint", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    ended = subprocess.run(command, check=False, capture_output=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert "Fall Müller" in (tmp_path / "out" / "fingerprint.json").read_text("utf-8")


def interrupt(words: list[str], is_at_work: Callable[[], bool], times: int = 1) -> tuple[int, str]:
    """Exit code and stderr of a command that gets Ctrl-C when it is at work, so many times."""
    process = subprocess.Popen([*KITSAM, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not is_at_work() and process.poll() is None:
        time.sleep(0.01)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to all or none")
def test_a_training_run_that_is_broken_off_says_that_it_goes_on(shards, tmp_path):
    out = tmp_path / "run"
    options = ["--steps", str(100 * LONG), "--batch_size", "4", "--device", "cpu", "--log_every", "1"]
    words = ["train", "--target", "roi", "--shards", str(shards), "--out", str(out), *options]
    code, err = interrupt(words, lambda: filled(out / "metrics.jsonl"))
    assert code == 130 and "Traceback" not in err
    assert err.splitlines()[-1] == "kitsam train: error: interrupted: the same command goes on from what is done"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to all or none")
@pytest.mark.parametrize("times", [1, 3])
def test_a_command_that_is_broken_off_leaves_nothing_half_written(tmp_path, times):
    words = ["phantom", str(tmp_path / "data"), "--cases", "200", "--size", "64", "--slices", "12"]
    code, err = interrupt(words, lambda: any(tmp_path.glob("data/*/segmentation.nii.gz")), times)
    assert code in (130, -signal.SIGINT)[:times] and "Traceback" not in err
    assert times > 1 or "interrupted: the same command starts anew" in err
    assert times > 1 or not list(tmp_path.glob("data/*/.tmp-*"))


def filled(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
