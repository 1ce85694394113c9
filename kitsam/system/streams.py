"""stdout and stderr, as safe places for a command's words.

A reader that has gone (`| head -1`), a full disk behind `>` or a name that the terminal has no letters for must not
cost a result: what cannot be shown as it is, is shown escaped; after a failure the stream is silent, and the command
goes on.
"""

import os
import sys
from collections.abc import Callable
from typing import Literal, TextIO


class Stream:
    """`sys.stdout` or `sys.stderr`, whichever object that is at the time; its methods raise nothing."""

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self.name = name
        self.lost: TextIO | None = None  # the stream that failed

    def write(self, text: str) -> int:
        self._attempt(lambda stream: _write(stream, text))
        return len(text)

    def line(self, text: str) -> None:
        self.write(f"{text}\n")
        self.flush()

    def flush(self) -> None:
        self._attempt(lambda stream: stream.flush())

    def isatty(self) -> bool:
        stream = self._stream()
        try:
            return stream is not None and stream.isatty()
        except ValueError:
            return False  # closed

    def fileno(self) -> int:
        stream = self._stream()
        if stream is None:
            raise OSError(f"{self.name} is closed")
        return stream.fileno()

    @property
    def encoding(self) -> str:
        return getattr(self._stream(), "encoding", None) or "utf-8"

    def _stream(self) -> TextIO | None:
        """None where the process was started without one."""
        stream = getattr(sys, self.name)
        # rich puts a proxy in its place while a progress bar is shown, which would lead back here.
        return getattr(stream, "rich_proxied_file", stream)

    def _attempt(self, action: Callable[[TextIO], object]) -> None:
        stream = self._stream()
        if stream is None or stream is self.lost:
            return
        try:
            action(stream)
        except BlockingIOError:
            pass  # a terminal that is slow to show: what it has no room for is lost, the next line is not
        except (OSError, ValueError):
            self.lost = stream
            _lead_nowhere(stream)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _lead_nowhere(stream: TextIO) -> None:
    """What is left in the stream's buffer would fail again when Python ends, and change the exit code."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass  # no file of the system, as in a test


OUT, ERR = Stream("stdout"), Stream("stderr")
