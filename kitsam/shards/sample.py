"""One slice in one view, as members of a plain tar that stock `webdataset` reads.

`KEY.emb.npy` float16 or int8 (256, G, G) uncompressed, for int8 `KEY.scale.npy` float32 (256,), `KEY.json` the record,
`KEY.mask.png` uint8 labels, where asked for `KEY.ct.png` the slice in 8 bits. KEY is `case_00000-0123-0`: case, slice,
view. The npy header is 128 bytes, so that the embedding's payload lies at a known offset and can be read straight into
a batch. Nothing here is ever unpickled.
"""

import io
import json
from dataclasses import asdict, dataclass

import numpy as np

from kitsam.ct.body import BodyBox
from kitsam.shards.config import Storage
from kitsam.shards.masks import encode_mask
from kitsam.shards.storage import quantize

EMBEDDING, SCALE, RECORD, MASK, CT = "emb.npy", "scale.npy", "json", "mask.png", "ct.png"
NPY_HEADER = 128  # bytes of an npy file before its numbers, for the shapes stored here


@dataclass(frozen=True)
class SampleRecord:
    """Where a sample comes from and what its mask holds: the content of `KEY.json`."""

    case: str
    slice: int  # index in the canonical frame, 0 nearest the head
    view: int  # 0: plain, others augmented
    stratum: str
    pixels: tuple[int, int, int, int]  # of the stored mask: background, kidney, tumor, cyst
    native_shape: tuple[int, int]  # rows, columns of the slice on disk
    spacing: tuple[float, float, float]  # mm between slices, rows, columns
    transform: tuple[tuple[float, float, float], tuple[float, float, float]]  # native x, y, 1 -> input x, y
    body: BodyBox | None = None  # what the slice was cut to; in the JSON only of a set of cut slices

    @property
    def key(self) -> str:
        return sample_key(self.case, self.slice, self.view)

    def pixel_of(self, mask: np.ndarray) -> tuple[float, float]:
        """Size of a pixel of the stored mask (h, w), mm a row and a column.

        A view may be scaled and differ from it a little.
        """
        shape = self.body.shape if self.body else self.native_shape
        sizes = zip(self.spacing[1:], shape, mask.shape)
        return tuple(mm * native / stored for mm, native, stored in sizes)


def sample_key(case: str, slice_index: int, view: int) -> str:
    """The name that a sample's members share in the tar."""
    return f"{case}-{slice_index:04d}-{view}"


def member_suffixes(storage: Storage, ct: bool = False) -> tuple[str, ...]:
    """Of a sample's members, in their order in the tar; `ct`: with the slice itself."""
    scale, picture = (SCALE,) if storage == "int8" else (), (CT,) if ct else ()
    return (EMBEDDING, *scale, RECORD, MASK, *picture)


def encode_members(embedding: np.ndarray, mask: np.ndarray, record: SampleRecord, storage: Storage) -> dict[str, bytes]:
    """The members by suffix, in their order in the tar.

    `embedding`: (256, G, G) float16; `mask`: (h, w) uint8.
    """
    if storage == "int8":
        numbers = dict(zip((EMBEDDING, SCALE), map(_npy, quantize(embedding))))
    else:
        numbers = {EMBEDDING: _npy(embedding)}
    known = {name: value for name, value in asdict(record).items() if value is not None}
    text = json.dumps(known, separators=(",", ":"))
    return {**numbers, RECORD: text.encode(), MASK: encode_mask(mask)}


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return file.getvalue()


def payload_offset(npy: bytes) -> int:
    """Offset of the numbers in an npy file, bytes."""
    return 10 + int.from_bytes(npy[8:10], "little")
