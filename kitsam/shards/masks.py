"""Masks as PNG: written so that they can be read fast; any other PNG can be read too.

Labels are flat areas, so PNG's row filters gain nothing; without them a decompressed file is the array itself, with one
byte before each row. Any other PNG goes through Pillow, which takes about three times as long.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from kitsam.system.errors import ShardError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY_8_BIT = bytes([8, 0, 0, 0, 0])  # depth, color, compression, filter, interlace
HEADER = SIGNATURE + struct.pack(">I4s", 13, b"IHDR")
DATA_AT = len(HEADER) + 13 + 4  # offset of the second chunk


def encode_mask(mask: np.ndarray) -> bytes:
    """`mask`: (h, w) uint8 -> the bytes of a PNG."""
    height, width = mask.shape
    rows = np.zeros((height, width + 1), np.uint8)
    rows[:, 1:] = mask
    parts = {b"IHDR": struct.pack(">II", width, height) + GRAY_8_BIT, b"IDAT": zlib.compress(rows), b"IEND": b""}
    return SIGNATURE + b"".join(_chunk(name, data) for name, data in parts.items())


def encode_picture(pixels: np.ndarray) -> bytes:
    """`pixels`: (h, w) uint8 of a slice, which row filters do help."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=6)
    return file.getvalue()


def decode_picture(png: bytes, source: str) -> np.ndarray:
    """(h, w) uint8. Raises `ShardError` naming `source`."""
    try:
        return np.asarray(Image.open(io.BytesIO(png), formats=["PNG"]))
    except (OSError, SyntaxError, ValueError) as error:
        raise ShardError(f"{source}: not a picture: {error}") from error


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def decode_mask(png: bytes, source: str, empty: bool = False) -> np.ndarray:
    """(h, w) uint8 labels; only the size is read of a mask that is `empty`. Raises `ShardError` naming `source`."""
    try:
        width, height = struct.unpack_from(">II", png, len(HEADER))
        if empty and png.startswith(HEADER):
            return np.zeros((height, width), np.uint8)
        mask = _decode_unfiltered(png, height, width)
        return np.asarray(Image.open(io.BytesIO(png), formats=["PNG"])) if mask is None else mask
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error) as error:
        raise ShardError(f"{source}: not a mask: {error}") from error


def _decode_unfiltered(png: bytes, height: int, width: int) -> np.ndarray | None:
    """None where the file is not of the kind that `encode_mask` writes."""
    size, name = struct.unpack_from(">I4s", png, DATA_AT)
    end = DATA_AT + 8 + size
    if png[len(HEADER) + 8 : DATA_AT - 4] != GRAY_8_BIT or name != b"IDAT" or png[end + 8 : end + 12] != b"IEND":
        return None
    expected = height * (width + 1)
    rows = np.frombuffer(zlib.decompress(png[DATA_AT + 8 : end], bufsize=expected), np.uint8)
    if len(rows) != expected:
        raise ValueError(f"{len(rows)} bytes, expected {expected}")
    rows = rows.reshape(height, width + 1)
    return None if rows[:, 0].any() else rows[:, 1:]
