"""Bytes from an address onto the end of a file that has some of them already, or `Trouble`.

http and https use the session of fsspec's file system, not its files: those hide a reply's status and Content-Range,
and only they tell whether a server goes on where it should. Other addresses go through fsspec's drivers, which have
time limits of their own; where none is installed (gs:) or there is none (pipe:), through the tool that webdataset's
`gopen` runs, which starts from the beginning. A full disk is a `KitsamError`, not trouble of the network. Spans of a
file come without the rest of it, where the server has them.
"""

import asyncio
import os
import select
import shutil
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kitsam.system.console import progress
from kitsam.system.drivers import Span, driver_blocks, driver_span, has_driver, missing_driver, whole
from kitsam.system.errors import KitsamError
from kitsam.system.loop import run
from kitsam.system.trouble import Trouble, trouble_of

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from fsspec.implementations.http import HTTPFileSystem
    from webdataset.gopen import Pipe

STALLED = 30.0  # seconds without a byte
BLOCK = 1 << 20  # bytes
MEGABYTE = 1_000_000

_MAY_PASS = (408, 425, 429)  # of HTTP's 4xx: timeout, too early, too many requests
_ABSENT = (404, 410)


class NotWanted(KitsamError):
    """The program ends while a file is on its way."""


@dataclass(frozen=True)
class Transfer:
    """What comes from where, into which file."""

    address: str
    part: Path  # the file as far as it has come
    size: int | None  # bytes of the whole, as far as known
    title: str  # of a progress bar; none where empty
    ended: threading.Event  # set when nobody wants it any more

    def received(self) -> int:
        """Bytes that are there."""
        return self.part.stat().st_size if self.part.exists() else 0


def transfer(task: Transfer) -> None:
    """Bring what is missing of the part. Raises `Trouble`, or `KitsamError` when the disk fails."""
    if _is_web(task.address):
        with _web_trouble():
            run(_get(_web(), task))
    else:
        offset, blocks = _blocks(task)
        with closing(blocks), _writing(task, offset, task.size) as write:
            for block in blocks:
                write(block)
    with disk_errors(task.part), open(task.part, "rb+") as file:
        os.fsync(file.fileno())


def _is_web(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def _blocks(task: Transfer) -> tuple[int, Iterator[bytes]]:
    """Where they begin, and what a driver or a tool brings from there on."""
    if has_driver(task.address):
        return task.received(), driver_blocks(task.address, task.received())
    missing = missing_driver(task.address)
    if missing and not (task.address.startswith("gs:") and shutil.which("gsutil")):
        raise Trouble(missing, may_pass=False)
    return 0, _tool_blocks(task.address)


def _web() -> "HTTPFileSystem":
    import aiohttp
    import fsspec

    limits = aiohttp.ClientTimeout(total=None, sock_connect=STALLED, sock_read=STALLED)
    # Proxies count, as for any other tool; a signed address arrives as it was signed; bytes come as they are stored.
    client = {"timeout": limits, "trust_env": True, "auto_decompress": False}
    return fsspec.filesystem("http", client_kwargs=client, encoded=True, skip_instance_cache=True)


@contextmanager
def _web_trouble() -> Iterator[None]:
    import aiohttp

    try:
        yield
    except asyncio.TimeoutError as error:
        raise Trouble(f"no byte for {STALLED:g} s") from error
    except aiohttp.InvalidURL as error:
        raise Trouble("not an address", may_pass=False) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise trouble_of(error) from error


async def _get(system: "HTTPFileSystem", task: Transfer) -> None:
    import aiohttp

    offset = task.received()
    url, headers = system.encode_url(task.address), _headers(f"{offset}-" if offset else "")
    async with await system.set_session() as session, session.get(url, headers=headers) as reply:
        if reply.status == 416 and offset:
            return  # nothing is left to send: the part is complete, or never was of this file, as its check will tell
        _check_status(reply)
        if reply.status != 206:
            offset = 0
        elif not reply.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            task.part.unlink(missing_ok=True)
            raise Trouble("the server sent another range than asked for")
        total = task.size if reply.content_length is None else offset + reply.content_length
        with _writing(task, offset, total) as write:
            broken = False
            try:
                # In the loop that receives: what has arrived before a connection breaks is written before it raises.
                async for block in reply.content.iter_any():
                    write(block)
            except aiohttp.ClientPayloadError:
                broken = True
    if broken or (total is not None and task.received() < total):
        of_total = f" of {total}" if total else ""
        raise Trouble(f"the connection closed after {task.received()}{of_total} bytes")


def _headers(wanted: str) -> dict[str, str]:
    ranges = {"Range": f"bytes={wanted}"} if wanted else {}
    return {"User-Agent": "kitsam", "Accept-Encoding": "identity", **ranges}


def _check_status(reply: "ClientResponse") -> None:
    status = reply.status
    if status >= 400:
        raise Trouble(f"HTTP {status} {reply.reason}", status >= 500 or status in _MAY_PASS, status in _ABSENT)


def read_spans(spans: list[Span]) -> list[bytes | Trouble]:
    """The bytes of each span, all under way at once, or why they did not come; the spans are of one server."""

    async def read() -> list[bytes | Trouble]:
        if not _is_web(spans[0].address):
            return await asyncio.gather(*(_or_trouble(driver_span(span)) for span in spans))
        system = _web()
        async with await system.set_session() as session:
            answers = [_web_span(session, system.encode_url(span.address), span) for span in spans]
            return await asyncio.gather(*map(_or_trouble, answers))

    return run(read())


async def _or_trouble(answer: Coroutine[None, None, bytes]) -> bytes | Trouble:
    try:
        return await answer
    except Trouble as trouble:
        return trouble


async def _web_span(session: "ClientSession", url: str, span: Span) -> bytes:
    with _web_trouble():
        async with session.get(url, headers=_headers(f"{span.offset}-{span.offset + span.size - 1}")) as reply:
            _check_status(reply)
            if not reply.headers.get("Content-Range", "").startswith(f"bytes {span.offset}-"):
                raise Trouble("the server sent another range than asked for", may_pass=False)
            return whole(await reply.read(), span.size)


def _tool_blocks(address: str) -> Iterator[bytes]:
    from webdataset.gopen import Pipe, gopen

    try:
        stream = gopen(address, "rb", bufsize=0)
        yield from _pipe_blocks(stream) if isinstance(stream, Pipe) else iter(lambda: stream.read(BLOCK), b"")
    except ValueError as error:
        raise Trouble("no driver and no tool for such an address", may_pass=False) from error
    except OSError as error:
        raise trouble_of(error) from error


def _pipe_blocks(stream: "Pipe") -> Iterator[bytes]:
    descriptor = stream.stream.fileno()
    stream.ignore_errors = True  # its own error is no line to show
    try:
        while True:
            # Windows cannot wait for a pipe with a limit: there the tool's own holds.
            if os.name == "posix" and not select.select([descriptor], [], [], STALLED)[0]:
                raise Trouble(f"no byte for {STALLED:g} s")
            block = os.read(descriptor, BLOCK)
            if not block:
                break
            yield block
    except BaseException:
        stream.proc.kill()
        stream.close()
        raise
    stream.close()
    # Nothing else tells a short file from a complete one.
    if stream.status not in stream.ignore_status:
        raise Trouble(f"the tool that brings it failed with exit code {stream.status}", absent=True)


@contextmanager
def _writing(task: Transfer, offset: int, total: int | None) -> Iterator[Callable[[bytes], None]]:
    """Yield what appends a block to the first `offset` bytes of the part."""
    bar = progress(task.title, max(1, (total or 0) // MEGABYTE), "MB", offset // MEGABYTE)
    with _open(task.part, "ab" if offset else "wb") as file, bar if task.title else nullcontext(lambda _: None) as tick:

        def write(block: bytes) -> None:
            if task.ended.is_set():
                raise NotWanted(f"{task.address}: no longer wanted")
            rest = memoryview(block)
            with disk_errors(task.part):
                while rest:
                    rest = rest[file.write(rest) :]
            tick(len(block) / MEGABYTE)

        yield write


def _open(part: Path, mode: str) -> BinaryIO:
    """Unbuffered: a full disk is met when a block is written, not when the file closes."""
    with disk_errors(part):
        return open(part, mode, buffering=0)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Keep the disk's errors apart from the network's, which are `OSError` too."""
    try:
        yield
    except OSError as error:
        raise KitsamError(f"{path}: cannot be written: {error.strerror or error}") from error
