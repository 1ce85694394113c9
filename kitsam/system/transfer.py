"""Bytes from an address onto the end of a file that has some of them already, or `Trouble`.

http and https use the session of fsspec's file system, not its files: those hide a reply's status and Content-Range,
and only they tell whether a server goes on where it should. Other addresses go through fsspec's drivers, which have
time limits of their own; where none is installed (gs:) or there is none (pipe:), through the tool that webdataset's
`gopen` runs, which starts from the beginning. A full disk is a `KitsamError`, not trouble of the network.
"""

import asyncio
import os
import select
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kitsam.system.console import progress
from kitsam.system.errors import KitsamError

if TYPE_CHECKING:
    from fsspec.implementations.http import HTTPFileSystem
    from webdataset.gopen import Pipe

STALLED = 30.0  # seconds without a byte
BLOCK = 1 << 20  # bytes
MEGABYTE = 1_000_000

_MAY_PASS = (408, 425, 429)  # of HTTP's 4xx: timeout, too early, too many requests


class Trouble(Exception):
    """Why a transfer brought no complete file."""

    def __init__(self, reason: str, may_pass: bool = True) -> None:
        super().__init__(reason)
        self.may_pass = may_pass


@dataclass(frozen=True)
class Transfer:
    """What comes from where, into which file."""

    address: str
    part: Path  # the file as far as it has come
    size: int | None  # bytes of the whole, as far as known
    title: str  # of a progress bar; none where empty

    def received(self) -> int:
        """Bytes that are there."""
        return self.part.stat().st_size if self.part.exists() else 0


def transfer(task: Transfer) -> None:
    """Bring what is missing of the part. Raises `Trouble`, or `KitsamError` when the disk fails."""
    if task.address.startswith(("http://", "https://")):
        _over_http(task)
        return
    if _has_driver(task.address):
        offset = task.received()
        blocks = _driver_blocks(task.address, offset)
    else:
        offset, blocks = 0, _tool_blocks(task.address)
    with closing(blocks), _writing(task, offset, task.size) as write:
        for block in blocks:
            write(block)


def _over_http(task: Transfer) -> None:
    import aiohttp
    import fsspec

    limits = aiohttp.ClientTimeout(total=None, sock_connect=STALLED, sock_read=STALLED)
    # Proxies count, as for any other tool; a signed address arrives as it was signed; bytes come as they are stored.
    client = {"timeout": limits, "trust_env": True, "auto_decompress": False}
    system = fsspec.filesystem("http", client_kwargs=client, encoded=True, skip_instance_cache=True)
    try:
        _run_in(system.loop, _get(system, task))
    except asyncio.TimeoutError as error:
        raise Trouble(f"no byte for {STALLED:g} s") from error
    except aiohttp.InvalidURL as error:
        raise Trouble("not an address", may_pass=False) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _trouble_of(error) from error


def _run_in(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[None, None, None]) -> None:
    """As fsspec's `sync`, which leaves a coroutine at work when the wait for it is interrupted."""
    ended = threading.Event()

    async def run() -> None:
        try:
            await coroutine
        finally:
            ended.set()

    future = asyncio.run_coroutine_threadsafe(run(), loop)
    try:
        while not ended.wait(1):
            pass  # Windows takes Ctrl-C between two waits only
        future.result()
    except BaseException:
        future.cancel()
        ended.wait(1)
        raise


async def _get(system: "HTTPFileSystem", task: Transfer) -> None:
    import aiohttp

    offset = task.received()
    headers = {"User-Agent": "kitsam", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    url = system.encode_url(task.address)
    async with await system.set_session() as session, session.get(url, headers=headers) as reply:
        if reply.status == 416 and offset:
            return  # nothing is left to send: the part is complete, or never was of this file, as its check will tell
        if reply.status >= 400:
            raise Trouble(f"HTTP {reply.status} {reply.reason}", reply.status >= 500 or reply.status in _MAY_PASS)
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


def _has_driver(address: str) -> bool:
    import fsspec

    try:
        fsspec.get_filesystem_class(_scheme(address))
    except (ImportError, ValueError):
        return False
    return True


def _driver_blocks(address: str, offset: int) -> Iterator[bytes]:
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(address)
        with system.open(path, "rb") as stream:
            stream.seek(offset)
            while block := stream.read(BLOCK):
                yield block
    except Exception as error:
        # A driver raises what the library below it does, which is of no class known here.
        raise _trouble_of(error) from error


def _tool_blocks(address: str) -> Iterator[bytes]:
    from fsspec.registry import known_implementations
    from webdataset.gopen import Pipe, gopen

    try:
        stream = gopen(address, "rb", bufsize=0)
        yield from _pipe_blocks(stream) if isinstance(stream, Pipe) else iter(lambda: stream.read(BLOCK), b"")
    except ValueError as error:
        reason = known_implementations.get(_scheme(address), {}).get("err", "no driver and no tool for such an address")
        raise Trouble(reason, may_pass=False) from error
    except OSError as error:
        raise _trouble_of(error) from error


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
        raise Trouble(f"the tool that brings it failed with exit code {stream.status}")


def _scheme(address: str) -> str:
    return address.partition(":")[0]


def _trouble_of(error: Exception) -> Trouble:
    reason = " ".join(str(error).split()) or type(error).__name__
    return Trouble(reason, may_pass=not isinstance(error, FileNotFoundError | PermissionError | ValueError))


@contextmanager
def _writing(task: Transfer, offset: int, total: int | None) -> Iterator[Callable[[bytes], None]]:
    """Yield what appends a block to the first `offset` bytes of the part."""
    bar = progress(task.title, max(1, (total or 0) // MEGABYTE), "MB", offset // MEGABYTE)
    with _open(task.part, "ab" if offset else "wb") as file, bar if task.title else nullcontext(lambda _: None) as tick:

        def write(block: bytes) -> None:
            rest = memoryview(block)
            with disk_errors(task.part):
                while rest:
                    rest = rest[file.write(rest) :]
            tick(len(block) / MEGABYTE)

        yield write
        with disk_errors(task.part):
            os.fsync(file.fileno())


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
