"""Samples of the first batches, read by themselves while their tars are still on the way.

A batch draws from a window of some twenty tars of a GiB each, and the order of samples is not to depend on how they
come. So that the first step waits for its own 128 MiB and not for all of the window, a process may read so much of the
samples it needs without their tars; that comes on top of the tars' bytes, which are fetched in the meantime. What came
is compared with the checksums in the index. Whatever goes wrong here, the tar is waited for.
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kitsam.shards.index import SampleEntry
from kitsam.system.checksums import crc32_of
from kitsam.system.drivers import Span
from kitsam.system.transfer import disk_errors, read_spans
from kitsam.system.trouble import Trouble

if TYPE_CHECKING:
    from kitsam.shards.manifest import ShardEntry

HEAD_START = 4 * 2**30  # bytes a process: 32 batches of 64 slices of 2 MiB


class HeadStart:
    """What one process may still read without tars."""

    def __init__(self, address: str, folder: Path, size: int) -> None:
        self.address, self.folder = address, folder
        self.left = size  # bytes

    def open(self, samples: Mapping["ShardEntry", Sequence[SampleEntry]], stack: ExitStack) -> dict[str, BinaryIO]:
        """By the shards' names files with nothing but the samples, as far as these came, where they are in the tars."""
        entries = [entry for some in samples.values() for entry in some]
        size = sum(map(_size, entries))
        if not entries or size > self.left or any(entry.crc32 is None for entry in entries):
            return {}
        self.left -= size
        spans = [
            Span(f"{self.address}/{shard.name}", entry.embedding, _size(entry))
            for shard, some in samples.items()
            for entry in some
        ]
        answers = iter(read_spans(spans))
        files = {}
        for shard, some in samples.items():
            blocks = [next(answers) for _ in some]
            if all(map(_is_right, blocks, some)):
                files[shard.name] = _file_of(blocks, some, self.folder, stack)
            elif any(isinstance(block, Trouble) and not block.may_pass for block in blocks):
                self.left = 0
        return files


def _size(entry: SampleEntry) -> int:
    """Bytes from the embedding's numbers to the end of the mask."""
    return sum(entry.mask) - entry.embedding


def _is_right(block: bytes | Trouble, entry: SampleEntry) -> bool:
    return not isinstance(block, Trouble) and crc32_of([block]) == entry.crc32


def _file_of(blocks: Sequence[bytes], entries: Sequence[SampleEntry], folder: Path, stack: ExitStack) -> BinaryIO:
    """It takes no room where there is no sample."""
    with disk_errors(folder):
        file = stack.enter_context(_nameless_file(folder))
        for block, entry in zip(blocks, entries):
            file.seek(entry.embedding)
            file.write(block)
        file.flush()
    return file


def _nameless_file(folder: Path) -> BinaryIO:
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=folder)
