"""Shards: plain tars that appear under their names only when complete, each with an index beside it.

The tar is hashed as it is written to a temporary name, flushed and renamed; then the caller writes its index, the
sidecar `.json`. A tar without one is thus unfinished. Times, owners and the order of members are fixed, so that the
same samples give the same bytes.
"""

import hashlib
import tarfile
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, final

import numpy as np

from kitsam.shards.boxes import NO_BOXES, MaskBoxes
from kitsam.shards.config import Storage
from kitsam.shards.index import SampleEntry, ShardIndex, read_index
from kitsam.shards.masks import encode_picture
from kitsam.shards.sample import CT, EMBEDDING, MASK, RECORD, SCALE, SampleRecord, encode_members, payload_offset
from kitsam.system.checksums import crc32_of
from kitsam.system.errors import ShardError
from kitsam.system.files import complete_or_absent

END = bytes(2 * tarfile.BLOCKSIZE)  # of a tar
BLOCK = 8 << 20  # bytes of a shard that are copied at once


class PackedSample(NamedTuple):
    """The bytes of a sample in a tar, and its entry as it were in a tar that begins with it."""

    pieces: list[bytes]
    entry: SampleEntry


def pack(
    embedding: np.ndarray,  # (256, G, G) float16
    mask: np.ndarray,  # (h, w) uint8 labels
    record: SampleRecord,
    storage: Storage,
    boxes: MaskBoxes = NO_BOXES,
    ct: np.ndarray | None = None,  # (h, w) uint8, the slice itself
) -> PackedSample:
    """All that a sample takes before its place in a shard is known: any thread may do it."""
    members = encode_members(embedding, mask, record, storage)
    start = payload_offset(members[EMBEDDING])
    if ct is not None:
        members[CT] = encode_picture(ct)
    places: dict[str, tuple[int, int]] = {}  # offset and size of each member's data
    pieces, size = [], 0
    for suffix, data in members.items():
        info = tarfile.TarInfo(f"{record.key}.{suffix}")  # time 0, mode 0644, owner 0: nothing changes from run to run
        info.size = len(data)
        member = [info.tobuf(tarfile.USTAR_FORMAT), data, bytes(-len(data) % tarfile.BLOCKSIZE)]
        places[suffix] = size + len(member[0]), len(data)
        size += sum(map(len, member))
        pieces += member
    mask_at = 3 * list(members).index(MASK) + 1
    entry = SampleEntry(
        record.key,
        record.case,
        record.slice,
        record.view,
        record.pixels,
        embedding=places[EMBEDDING][0] + start,
        scale=places[SCALE][0] + payload_offset(members[SCALE]) if SCALE in members else None,
        record=places[RECORD],
        mask=places[MASK],
        # What the reader reads with one call: from the embedding's numbers to the end of the mask.
        crc32=crc32_of([memoryview(members[EMBEDDING])[start:], *pieces[2 : mask_at + 1]]),
        ct=places.get(CT),
        kidneys=boxes.kidneys,
        tumors=boxes.tumors,
        cysts=boxes.cysts,
    )
    return PackedSample(pieces, entry)


@final
class ShardWriter(AbstractContextManager):
    """A context in which one shard is written. An error in it leaves no file; after it `index` describes the shard."""

    def __init__(self, path: Path, storage: Storage = "float16") -> None:
        self.path, self.storage = path, storage
        self._samples: list[SampleEntry] = []
        self._digest = hashlib.sha256()
        self._size = 0

    def __enter__(self) -> "ShardWriter":
        with ExitStack() as stack:
            temporary = stack.enter_context(complete_or_absent(self.path))
            self._file = stack.enter_context(open(temporary, "wb"))
            self._resources = stack.pop_all()
        return self

    def add(
        self,
        embedding: np.ndarray,  # (256, G, G) float16
        mask: np.ndarray,  # (h, w) uint8 labels
        record: SampleRecord,
        boxes: MaskBoxes = NO_BOXES,
        ct: np.ndarray | None = None,  # (h, w) uint8, the slice itself
    ) -> None:
        self.append(pack(embedding, mask, record, self.storage, boxes, ct))

    def append(self, sample: PackedSample) -> None:
        self._samples.append(sample.entry.moved(self._size))
        for piece in sample.pieces:
            self._write(piece)

    def append_shard(self, shard: Path) -> None:
        """The samples of a complete shard. Raises `ShardError` naming it when it is damaged."""
        index = read_index(shard)
        self._samples += [entry.moved(self._size) for entry in index.samples]
        digest, left = hashlib.sha256(), index.bytes - len(END)
        try:
            with open(shard, "rb") as file:
                while block := file.read(min(BLOCK, left)):
                    digest.update(block)
                    self._write(block)
                    left -= len(block)
                digest.update(file.read())
        except OSError as error:
            raise ShardError(f"{shard}: cannot be read: {error.strerror}") from error
        if digest.hexdigest() != index.sha256:
            raise ShardError(f"{shard}: damaged: its SHA-256 is not its index's: run the same command again")

    def _write(self, data: bytes | memoryview) -> None:
        # Several shards are open at once: the error must name its own.
        try:
            self._file.write(data)
        except OSError as error:
            raise ShardError(f"{self.path}: cannot be written: {error.strerror}") from error
        self._digest.update(data)
        self._size += len(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._write(END)
        self._resources.__exit__(kind, error, traceback)

    def index(self) -> ShardIndex:
        """The content of the sidecar, after the context has ended."""
        return ShardIndex(self._digest.hexdigest(), self._size, tuple(self._samples))
