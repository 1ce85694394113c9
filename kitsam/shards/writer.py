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
from typing import final

import numpy as np

from kitsam.shards.boxes import NO_BOXES, MaskBoxes
from kitsam.shards.config import Storage
from kitsam.shards.index import SampleEntry, ShardIndex
from kitsam.shards.masks import encode_picture
from kitsam.shards.sample import CT, EMBEDDING, MASK, RECORD, SCALE, SampleRecord, encode_members, payload_offset
from kitsam.system.checksums import crc32_of
from kitsam.system.errors import ShardError
from kitsam.system.files import complete_or_absent


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
        members = encode_members(embedding, mask, record, self.storage)
        start = payload_offset(members[EMBEDDING])
        places, pieces = {}, []
        for suffix, data in members.items():
            places[suffix], parts = self._add_member(f"{record.key}.{suffix}", data)
            pieces += parts
        # What the reader reads with one call: from the embedding's numbers to the end of the mask.
        checksum = crc32_of([memoryview(members[EMBEDDING])[start:], *pieces[2:-1]])
        png = None if ct is None else encode_picture(ct)
        entry = SampleEntry(
            record.key,
            record.case,
            record.slice,
            record.view,
            record.pixels,
            embedding=places[EMBEDDING] + start,
            scale=places[SCALE] + payload_offset(members[SCALE]) if SCALE in members else None,
            record=(places[RECORD], len(members[RECORD])),
            mask=(places[MASK], len(members[MASK])),
            crc32=checksum,
            ct=None if png is None else (self._add_member(f"{record.key}.{CT}", png)[0], len(png)),
            kidneys=boxes.kidneys,
            tumors=boxes.tumors,
            cysts=boxes.cysts,
        )
        self._samples.append(entry)

    def _add_member(self, name: str, data: bytes) -> tuple[int, list[bytes]]:
        """Offset of the data, and the pieces that were written: header, data, padding."""
        info = tarfile.TarInfo(name)  # time 0, mode 0644, owner 0: nothing that changes from run to run
        info.size = len(data)
        pieces = [info.tobuf(tarfile.USTAR_FORMAT), data, bytes(-len(data) % tarfile.BLOCKSIZE)]
        offset = self._size + len(pieces[0])
        for piece in pieces:
            self._write(piece)
        return offset, pieces

    def _write(self, data: bytes) -> None:
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
            self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._resources.__exit__(kind, error, traceback)

    def index(self) -> ShardIndex:
        """The content of the sidecar, after the context has ended."""
        return ShardIndex(self._digest.hexdigest(), self._size, tuple(self._samples))
