"""Bytes of an address through fsspec's driver for it: s3fs, gcsfs and whatever else is installed.

An object store takes some 50 ms to answer, and one connection brings a part of what the network carries. So a file
comes in blocks, several of them under way at once; that costs 32 MiB of memory a file. A driver without asyncio reads
its file from end to end. Trying again is left to the caller, who counts: tries of a driver's own would multiply it.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from kitsam.system.loop import run
from kitsam.system.trouble import Trouble, trouble_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

BLOCK = 8 << 20  # bytes of one request
BLOCKS_AT_ONCE = 4  # of one file
CONNECTIONS = 128  # at most, of all files together; botocore's own bound for S3 is 10

# Scheme -> what brings its driver: a package, and the extra of kitsam that installs it.
_PACKAGES = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "gcs": ("gcsfs", "gcs")}


class Span(NamedTuple):
    """Some bytes of a file at an address."""

    address: str
    offset: int
    size: int


def has_driver(address: str) -> bool:
    import fsspec

    try:
        fsspec.get_filesystem_class(_scheme(address))
    except (ImportError, ValueError):
        return False
    return True


def missing_driver(address: str) -> str | None:
    """What to install for an address; None where no driver is known for it."""
    from fsspec.registry import known_implementations

    scheme = _scheme(address)
    if scheme in _PACKAGES:
        package, extra = _PACKAGES[scheme]
        return f'needs {package}, which is not installed: pip install {package}, or "kitsam[{extra}]"'
    return known_implementations.get(scheme, {}).get("err")


def _scheme(address: str) -> str:
    return address.partition(":")[0]


def driver_blocks(address: str, offset: int) -> Iterator[bytes]:
    """A file's bytes from `offset` on. Raises `Trouble`."""
    try:
        system, path = _open(address)
        with closing(_at_once(system, path, offset) if system.async_impl else _in_turn(system, path, offset)) as blocks:
            yield from blocks
    except Trouble:
        raise
    except Exception as error:
        # A driver raises what the library below it does, which is of no class known here.
        raise trouble_of(error) from error


async def driver_span(span: Span) -> bytes:
    """In the loop. Raises `Trouble`."""
    try:
        system, path = _open_in_loop(span.address)
        block = await system._cat_file(path, start=span.offset, end=span.offset + span.size)
    except Trouble:
        raise
    except Exception as error:
        raise trouble_of(error) from error
    return whole(block, span.size)


def whole(block: bytes, size: int) -> bytes:
    """Raises `Trouble` where a server sent another number of bytes than asked for."""
    if len(block) != size:
        raise Trouble(f"the server sent {len(block)} of {size} bytes")
    return block


def _open(address: str) -> tuple["AbstractFileSystem", str]:
    """The driver and the path that it knows the file by."""
    import fsspec
    from fsspec.core import url_to_fs

    if not fsspec.get_filesystem_class(_scheme(address)).async_impl:
        return url_to_fs(address)

    async def in_loop() -> tuple["AbstractFileSystem", str]:
        return _open_in_loop(address)

    return run(in_loop())


def _open_in_loop(address: str) -> tuple["AsyncFileSystem", str]:
    """fsspec has an instance for each thread: opened in the loop's, it is the same, with its connections, for all."""
    from fsspec.config import conf
    from fsspec.core import url_to_fs

    scheme, settings = _scheme(address), {}
    if scheme in ("s3", "s3a"):
        usual = {"retries": {"total_max_attempts": 1}, "max_pool_connections": CONNECTIONS}
        settings = {scheme: {"config_kwargs": usual | conf.get(scheme, {}).get("config_kwargs", {})}}
    system, path = url_to_fs(address, **settings)
    if not system.async_impl:
        raise Trouble("its driver reads whole files only", may_pass=False)
    if settings:
        system.retries = 1
    return system, path


def _at_once(system: "AsyncFileSystem", path: str, offset: int) -> Iterator[bytes]:
    starts: Iterator[int] = iter(())
    under_way: deque[asyncio.Task[bytes]] = deque()

    def begin(start: int) -> None:
        under_way.append(asyncio.ensure_future(system._cat_file(path, start=start, end=start + BLOCK)))

    async def size_of() -> int:
        begin(offset)  # while its size is looked up: a small file takes one round trip
        try:
            return (await system._info(path))["size"]
        except Exception:
            # The file's own error: where there is none, s3fs also asks for a folder of that name, which may be refused.
            await under_way[0]
            raise

    async def next_block() -> bytes:
        while len(under_way) < BLOCKS_AT_ONCE and (start := next(starts, None)) is not None:
            begin(start)
        return await under_way.popleft()

    async def end() -> None:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    try:
        size = run(size_of())
        starts = iter(range(offset + BLOCK, size, BLOCK))
        for start in range(offset, size, BLOCK):
            yield whole(run(next_block()), min(BLOCK, size - start))
    finally:
        run(end())


def _in_turn(system: "AbstractFileSystem", path: str, offset: int) -> Iterator[bytes]:
    with system.open(path, "rb") as stream:
        stream.seek(offset)
        while block := stream.read(BLOCK):
            yield block
