"""One file from an address to the disk, complete and checked, or an error that names it.

http and https go through the standard library, whose time limit notices a server that stalls; every other address (pipe:, s3:, gs:, ...)
through webdataset's `gopen`, which runs the tool that knows it. What arrives short, late or with the wrong bytes is
fetched again, a few times, after growing pauses.
"""

import http.client
import os
import select
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from kitsam.system.console import warn
from kitsam.system.errors import ShardError
from kitsam.system.files import complete_or_absent

TRIES = 5
FIRST_DELAY = 0.5  # seconds; doubles from try to try
STALLED = 30.0  # seconds without a byte
BLOCK = 1 << 20  # bytes

GONE = (401, 403, 404, 410)  # HTTP: asking again will not help


class _Trouble(ShardError):
    """What the network, or the tool that stands for it, did not bring."""

    may_pass = True


def is_address(text: str) -> bool:
    """Something that must be fetched, not a folder."""
    return "://" in text or text.startswith("pipe:")


def fetch(address: str, path: Path, check: Callable[[Path], None]) -> None:
    """Put the bytes of `address` at `path`. `check` gets the temporary file and raises `ShardError` when it is not what it should be.

    Raises `ShardError` naming the address when all tries failed, `KitsamError` when the disk fails.
    """
    for attempt in range(1, TRIES + 1):
        try:
            with complete_or_absent(path) as temporary, open(temporary, "wb") as file:
                file.writelines(_blocks(address))
                file.flush()
                check(temporary)
            return
        except ShardError as error:
            trouble = error
        if attempt == TRIES or not getattr(trouble, "may_pass", True):
            break
        delay = FIRST_DELAY * 2 ** (attempt - 1)
        warn(f"{address}: {trouble}; trying again in {delay:g} s")
        time.sleep(delay)
    raise ShardError(f"{address}: {trouble} (tried {attempt} times)") from trouble


def _blocks(address: str) -> Iterator[bytes]:
    """Raises `_Trouble`, so that the network's errors are not taken for the disk's."""
    try:
        yield from _over_http(address) if address.startswith(("http://", "https://")) else _through_a_tool(address)
    except (OSError, ValueError, http.client.HTTPException) as error:
        trouble = _Trouble(_reason(error))
        trouble.may_pass = not isinstance(error, ValueError) and getattr(error, "code", None) not in GONE
        raise trouble from error


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    return " ".join(str(getattr(error, "reason", "") or error or type(error).__name__).split())


def _over_http(address: str) -> Iterator[bytes]:
    request = urllib.request.Request(address, headers={"User-Agent": "kitsam", "Accept-Encoding": "identity"})
    with urllib.request.urlopen(request, timeout=STALLED) as reply:
        expected, received = reply.headers.get("Content-Length", ""), 0
        while block := reply.read(BLOCK):
            received += len(block)
            yield block
        if expected.isdigit() and received < int(expected):
            raise _Trouble(f"the connection closed after {received} of {expected} bytes")


def _through_a_tool(address: str) -> Iterator[bytes]:
    from webdataset.gopen import Pipe, gopen

    stream = gopen(address, "rb", bufsize=0)
    if not isinstance(stream, Pipe):
        with stream:
            while block := stream.read(BLOCK):
                yield block
        return
    descriptor = stream.stream.fileno()
    try:
        while True:
            if not select.select([descriptor], [], [], STALLED)[0]:
                raise _Trouble(f"no byte for {STALLED:g} s")
            block = os.read(descriptor, BLOCK)
            if not block:
                break
            yield block
    except BaseException:
        stream.proc.kill()
        stream.ignore_errors = True
        stream.close()
        raise
    # The tool's exit status tells a short file from a complete one.
    stream.close()
