"""Forms of vectors in messages, of NumPy or CuPy: as they are, or rounded to float16 with a scale."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from xpdl.backends.namespaces import Array, array_namespace

_HEADER = 4
# the largest value of a row is scaled to [2^14, 2^15): rounded up, it stays below the largest float16
_EXPONENT = 15


class Form(Protocol):
    """A form of rows in messages.

    Attributes
    ----------
    words : str
        What the description of a transport says of it.
    """

    words: str

    def pack(self, rows: Array) -> Array:
        """Return rows (k, n) as bytes (k, m)."""

    def unpack(self, data: Array, dtype: Any) -> Array:
        """Return bytes (k, m) as rows (k, n), to be added up and rounded to `dtype` then."""


class AsTheyAre:
    """The bytes of the values."""

    words = ""

    def pack(self, rows: Array) -> Array:
        return rows.view(np.uint8)

    def unpack(self, data: Array, dtype: Any) -> Array:
        return data.view(dtype)


class Float16:
    """Values in float16, of each row scaled by a power of two that makes the largest nearly as large as float16 can be.

    The scale is the sender's and goes along, so that nothing overflows and every rank unpacks the same. A value is rounded
    to 11 bits: its relative error is at most 2^-11, and that of values below 2^-28 of the largest at most 2^-39 of that one.
    Where a row has NaN or infinity, so has what is unpacked.
    """

    words = ", rounded to float16"

    def pack(self, rows: Array) -> Array:
        xp = array_namespace(rows)
        rows = rows.astype(np.float32) if rows.dtype.itemsize < 4 else rows
        peak = xp.max(xp.abs(rows), axis=1) if rows.shape[1] else xp.zeros(len(rows), dtype=rows.dtype)
        _, exponent = xp.frexp(peak)
        shift = xp.where(xp.isfinite(peak), _EXPONENT - exponent, 0).astype(np.int32)[:, np.newaxis]
        with np.errstate(all="ignore"):
            half = xp.ldexp(rows, shift).astype(np.float16)
        return xp.concatenate([shift.view(np.uint8), half.view(np.uint8)], axis=1)

    def unpack(self, data: Array, dtype: Any) -> Array:
        xp = array_namespace(data)
        shift = data[:, :_HEADER].copy().view(np.int32)
        wide = dtype if np.dtype(dtype).itemsize >= 4 else np.float32
        with np.errstate(all="ignore"):
            return xp.ldexp(data[:, _HEADER:].copy().view(np.float16).astype(wide), -shift)


#: value of the option `compression` -> its form
FORMS: dict[str | None, Form] = {None: AsTheyAre(), "float16": Float16()}
