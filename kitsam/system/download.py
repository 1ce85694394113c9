"""One file from an address to the disk: complete and right, or absent, with one line of error that names the address.

http and https use the session of fsspec's file system, not its files: those hide a reply's status and Content-Range,
and only they tell whether a server goes on where it should. Other addresses go through fsspec's drivers, which have
time limits of their own; where none is installed (gs:) or there is none (pipe:), through the tool that webdataset's
`gopen` runs. What breaks is resumed where it broke, after growing pauses, for as long as that gets further; what
cannot get better is not tried again.
"""

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kitsam.system.console import progress, warn
from kitsam.system.errors import KitsamError

if TYPE_CHECKING:
    from fsspec.implementations.http import HTTPFileSystem
    from webdataset.gopen import Pipe

TRIES = 5  # in a row that get no further
FIRST_DELAY = 1.0  # seconds; doubles from try to try
STALLED = 30.0  # seconds without a byte
BLOCK = 1 << 20  # bytes
MEGABYTE = 1_000_000

_MAY_PASS = (408, 425, 429)  # of HTTP's 4xx: timeout, too early, too many requests


class DownloadError(KitsamError):
    """An address that does not bring its file."""


class Damage(KitsamError):
    """What arrived is not what it should be; another try may bring it."""


class _Trouble(Exception):
    """Why a try brought no complete file."""

    def __init__(self, reason: str, may_pass: bool = True) -> None:
        super().__init__(reason)
        self.may_pass = may_pass


@dataclass(frozen=True)
class _Task:
    address: str
    part: Path  # the file as far as it has come
    size: int | None  # bytes of the whole, as far as known
    title: str  # of a progress bar; none where empty


def is_address(text: str) -> bool:
    """Something that must be fetched, not a folder."""
    return "://" in text or text.startswith("pipe:")


def download(
    address: str,
    path: Path,
    check: Callable[[Path], None],
    *,
    resumable: bool = False,
    size: int | None = None,
    title: str = "",
) -> None:
    """Put the bytes of `address` at `path`; where several may want it, inside `alone(path)`.

    `check` gets the complete file under another name and raises `Damage` when it should be fetched again, another
    `KitsamError` when that is of no use. `resumable`: it knows the file's checksum, so that what a run leaves, unlike
    bytes of who knows which version, may be gone on with by a later one.

    Raises `DownloadError` naming the address, `KitsamError` naming the file when the disk fails.
    """
    part = path.with_name(f"{path.name}.part")
    with _disk(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        if not resumable:
            part.unlink(missing_ok=True)
    try:
        _complete(_Task(address, part, size, title), check)
        with _disk(path):
            os.replace(part, path)
    finally:
        if not resumable:
            part.unlink(missing_ok=True)


def _complete(task: _Task, check: Callable[[Path], None]) -> None:
    furthest, failures = _size(task.part), 0
    while True:
        try:
            in_one_piece = not _size(task.part)
            _fetch(task)
            _judge(task.part, check, in_one_piece)
            return
        except _Trouble as error:
            trouble = error
        if not trouble.may_pass:
            raise DownloadError(f"{task.address}: {trouble}") from trouble
        # A server that cannot resume must not look like progress each time, or a broken one is asked for ever.
        failures = 0 if _size(task.part) > furthest else failures + 1
        furthest = max(furthest, _size(task.part))
        if failures >= TRIES:
            raise DownloadError(f"{task.address}: {trouble} (tried {TRIES} times without getting further)") from trouble
        delay = FIRST_DELAY * 2 ** max(failures - 1, 0)
        warn(f"{task.address}: {trouble}; trying again in {delay:g} s")
        time.sleep(delay)


def _judge(part: Path, check: Callable[[Path], None], in_one_piece: bool) -> None:
    """Remove a `part` that `check` refuses: the pieces of two versions may make a wrong file of right bytes."""
    try:
        check(part)
    except KitsamError as error:
        part.unlink(missing_ok=True)
        raise _Trouble(str(error), may_pass=isinstance(error, Damage) or not in_one_piece) from error


def _fetch(task: _Task) -> None:
    """Bring what is missing of the part. Raises `_Trouble`."""
    if task.address.startswith(("http://", "https://")):
        _over_http(task)
        return
    if _has_driver(task.address):
        offset = _size(task.part)
        blocks = _driver_blocks(task.address, offset)
    else:
        offset, blocks = 0, _tool_blocks(task.address)
    with closing(blocks), _writing(task, offset, task.size) as write:
        for block in blocks:
            write(block)


def _over_http(task: _Task) -> None:
    import aiohttp
    import fsspec
    from fsspec.asyn import sync
    from fsspec.exceptions import FSTimeoutError

    limits = aiohttp.ClientTimeout(total=None, sock_connect=STALLED, sock_read=STALLED)
    # Proxies count, as for any other tool; a signed address arrives as it was signed; bytes come as they are stored.
    client = {"timeout": limits, "trust_env": True, "auto_decompress": False}
    system = fsspec.filesystem("http", client_kwargs=client, encoded=True, skip_instance_cache=True)
    try:
        sync(system.loop, _get, system, task)
    except FSTimeoutError as error:
        raise _Trouble(f"no byte for {STALLED:g} s") from error
    except aiohttp.InvalidURL as error:
        raise _Trouble("not an address", may_pass=False) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _trouble_of(error) from error


async def _get(system: "HTTPFileSystem", task: _Task) -> None:
    import aiohttp

    offset = _size(task.part)
    headers = {"User-Agent": "kitsam", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    url = system.encode_url(task.address)
    async with await system.set_session() as session, session.get(url, headers=headers) as reply:
        if reply.status == 416 and offset:
            return  # nothing is left to send: the part is complete, or never was of this file, as its check will tell
        if reply.status >= 400:
            raise _Trouble(f"HTTP {reply.status} {reply.reason}", reply.status >= 500 or reply.status in _MAY_PASS)
        if reply.status != 206:
            offset = 0
        elif not reply.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            task.part.unlink(missing_ok=True)
            raise _Trouble("the server sent another range than asked for")
        total = task.size if reply.content_length is None else offset + reply.content_length
        with _writing(task, offset, total) as write:
            broken = False
            try:
                # In the loop that receives: what has arrived before a connection breaks is written before it raises.
                async for block in reply.content.iter_any():
                    write(block)
            except aiohttp.ClientPayloadError:
                broken = True
    if broken or (total is not None and _size(task.part) < total):
        of_total = f" of {total}" if total else ""
        raise _Trouble(f"the connection closed after {_size(task.part)}{of_total} bytes")


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
        raise _Trouble(reason, may_pass=False) from error
    except OSError as error:
        raise _trouble_of(error) from error


def _pipe_blocks(stream: "Pipe") -> Iterator[bytes]:
    descriptor = stream.stream.fileno()
    stream.ignore_errors = True  # its own error is no line to show
    try:
        while True:
            # Elsewhere a pipe cannot be waited for with a limit: the tool's own holds.
            if os.name == "posix" and not select.select([descriptor], [], [], STALLED)[0]:
                raise _Trouble(f"no byte for {STALLED:g} s")
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
        raise _Trouble(f"the tool that brings it failed with exit code {stream.status}")


def _scheme(address: str) -> str:
    return address.partition(":")[0]


def _trouble_of(error: Exception) -> _Trouble:
    reason = " ".join(str(error).split()) or type(error).__name__
    return _Trouble(reason, may_pass=not isinstance(error, FileNotFoundError | PermissionError | ValueError))


@contextmanager
def _writing(task: _Task, offset: int, total: int | None) -> Iterator[Callable[[bytes], None]]:
    """Yield what appends a block to the first `offset` bytes of the part."""
    bar = progress(task.title, max(1, (total or 0) // MEGABYTE), "MB", offset // MEGABYTE)
    with _open(task.part, "ab" if offset else "wb") as file, bar if task.title else nullcontext(lambda _: None) as tick:

        def write(block: bytes) -> None:
            rest = memoryview(block)
            with _disk(task.part):
                while rest:
                    rest = rest[file.write(rest) :]
            tick(len(block) / MEGABYTE)

        yield write
        with _disk(task.part):
            os.fsync(file.fileno())


def _open(part: Path, mode: str) -> BinaryIO:
    """Unbuffered: a full disk is met when a block is written, not when the file closes."""
    with _disk(part):
        return open(part, mode, buffering=0)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Keeps the disk's errors apart from the network's, which are `OSError` too."""
    try:
        yield
    except OSError as error:
        raise KitsamError(f"{path}: cannot be written: {error.strerror or error}") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
