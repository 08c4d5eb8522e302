"""Forms of vectors in messages: as they are, or rounded to float16 with a scale."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from xpdl.distributed.communicator import Buffer

_HEADER = 4
# the largest value of a row is scaled to [2^14, 2^15): rounded up, it stays below the largest float16
_EXPONENT = 15


class Form(Protocol):
    """A form of rows in messages."""

    def pack(self, rows: Buffer) -> Buffer:
        """Return rows (k, n) as bytes (k, m)."""

    def unpack(self, data: Buffer, dtype: Any) -> Buffer:
        """Return bytes (k, m) as rows (k, n), to be added up and rounded to `dtype` then."""


class AsTheyAre:
    """The bytes of the values."""

    def pack(self, rows: Buffer) -> Buffer:
        return rows.view(np.uint8)

    def unpack(self, data: Buffer, dtype: Any) -> Buffer:
        return data.view(dtype)


class Float16:
    """Values in float16, of each row scaled by a power of two that makes the largest nearly as large as float16 can be.

    The scale is the sender's and goes along, so that nothing overflows and every rank unpacks the same. A value is rounded
    to 11 bits: its relative error is at most 2^-11, and that of values below 2^-28 of the largest at most 2^-39 of that one.
    Where a row has NaN or infinity, so has what is unpacked.
    """

    def pack(self, rows: Buffer) -> Buffer:
        rows = rows.astype(np.float32) if rows.itemsize < 4 else rows
        peak = np.max(np.abs(rows), axis=1, initial=0.0)
        _, exponent = np.frexp(peak)
        shift = np.where(np.isfinite(peak), _EXPONENT - exponent, 0).astype(np.int32)
        data = np.empty((len(rows), _HEADER + 2 * rows.shape[1]), np.uint8)
        data[:, :_HEADER] = shift[:, np.newaxis].view(np.uint8)
        with np.errstate(all="ignore"):
            data[:, _HEADER:].view(np.float16)[...] = np.ldexp(rows, shift[:, np.newaxis])
        return data

    def unpack(self, data: Buffer, dtype: Any) -> Buffer:
        shift = data[:, :_HEADER].copy().view(np.int32)
        wide = dtype if np.dtype(dtype).itemsize >= 4 else np.float32
        with np.errstate(all="ignore"):
            rows: Buffer = np.ldexp(data[:, _HEADER:].copy().view(np.float16).astype(wide), -shift)
        return rows


#: value of the option `compression` -> its form
FORMS: dict[str | None, Form] = {None: AsTheyAre(), "float16": Float16()}
