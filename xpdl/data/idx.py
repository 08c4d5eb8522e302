"""The IDX file format of MNIST, plain or compressed. Works on the host, in NumPy."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from typing import IO, Any

import numpy as np

# A header is believed up to here, so that a damaged one does not ask for all memory there is. The largest set of this
# kind, EMNIST by class, has half of it.
_MOST_BYTES = 2**30
_BLOCK = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> np.ndarray[Any, Any]:
    """Read an IDX file of unsigned bytes, plain or in gzip, into a new array.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no such file, is cut short, or has more bytes than its header says.
    """
    with open(path, "rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            if compressed:
                with gzip.GzipFile(fileobj=raw) as file:
                    return _read(file)
            return _read(raw)
        except (gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
            raise ValueError(f"{path}: is not a whole IDX file of bytes ({error}); take another copy of it") from error


def idx_header(array: np.ndarray[Any, Any]) -> bytes:
    """The bytes in front of the values in an IDX file of unsigned bytes."""
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)


def _read(file: IO[bytes] | gzip.GzipFile) -> np.ndarray[Any, Any]:
    magic = file.read(4)
    # two zeros, the type (8: unsigned byte), the rank
    if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
        raise ValueError(f"it begins with {magic!r}")
    rank = magic[3]
    header = file.read(4 * rank)
    if len(header) < 4 * rank:
        raise ValueError("it ends within its header")
    shape = struct.unpack(f">{rank}I", header)
    size = math.prod(shape)
    if size > _MOST_BYTES:
        raise ValueError(f"its header asks for {size} bytes")
    # block by block: reading all at once would claim the memory before it is known that the bytes are there
    data = bytearray()
    while block := file.read(min(_BLOCK, size - len(data))):
        data += block
    if len(data) != size or file.read(1):
        raise ValueError(f"its header says shape {shape}, which does not fit its length")
    return np.frombuffer(data, np.uint8).reshape(shape)
