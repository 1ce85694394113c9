"""Words that cannot be shown cost nothing else."""

import io
import os
import subprocess
import sys

import pytest

from kitsam.system.console import progress, say, warn
from kitsam.system.streams import Stream


class Broken(io.StringIO):
    """A pipe whose reader has gone."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.tries = error, 0

    def flush(self) -> None:
        self.tries += 1
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device"), ValueError("closed")])
def test_a_stream_that_fails_is_silent_from_then_on(monkeypatch, error):
    broken = Broken(error)
    monkeypatch.setattr(sys, "stdout", broken)
    for _ in range(3):
        say("a line")
    assert broken.tries == 1


def test_a_terminal_that_is_slow_loses_a_line_and_not_the_next(monkeypatch):
    slow = Broken(BlockingIOError())
    monkeypatch.setattr(sys, "stdout", slow)
    say("first")
    say("second")
    assert slow.tries == 2 and "second" in slow.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_what_an_encoding_has_no_letters_for_is_shown_escaped(monkeypatch, encoding):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding, errors="strict"))
    say("Fall ü \udcff")
    assert shown.getvalue().decode(encoding).strip() == (
        "Fall ü \\udcff" if encoding == "utf-8" else "Fall \\xfc \\udcff"
    )


def test_a_process_without_streams_works(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    say("a line")
    warn("a doubt")
    with progress("Working", 1, "cases") as tick:
        tick()
    assert not Stream("stdout").isatty() and Stream("stdout").encoding == "utf-8"


SAY_AND_WORK = (
    "import sys; from kitsam.system.console import say, progress\n"
    "with progress('Working', 1000, 'cases') as tick:\n"
    "    for number in range(1000):\n"
    "        say(f'line {number} ' + 'x' * 200); tick()\n"
    "open(sys.argv[1], 'w').close()"
)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_work_goes_on_after_the_reader_of_a_pipe_has_gone(tmp_path, stream):
    command = [sys.executable, "-c", SAY_AND_WORK, str(tmp_path / "result")]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: subprocess.PIPE}
    process = subprocess.Popen(command, **pipes)
    getattr(process, stream).close()
    assert process.wait(timeout=60) == 0 and (tmp_path / "result").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux alone has a disk that is always full")
def test_work_goes_on_where_the_log_has_no_room(tmp_path):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", SAY_AND_WORK, str(tmp_path / "result")]
        code = subprocess.run(command, stdout=full, stderr=full, timeout=60, check=False).returncode
    assert code == 0 and (tmp_path / "result").exists()
