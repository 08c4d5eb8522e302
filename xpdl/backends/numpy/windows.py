"""What the filters of a convolution see, copied out of images in the memory order (H, C, W, N)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

Host = np.ndarray[Any, Any]


def gathered(src: Host, first_row: int, rows: int, offsets: list[int], step: int, width: int, images: slice) -> Host:
    """Rows of `src` (H, C, W, N), shifted along W: (rows, shifts, C, width, images).

    Entry ``[i, k, c, j]`` is ``src[first_row + i, c, offsets[k] + j step]``, and 0 outside of `src`.
    """
    seen = np.empty((rows, len(offsets), src.shape[1], width, images.stop - images.start), src.dtype)
    inside = _inside(rows, first_row, 1, src.shape[0])
    seen[: inside.start] = 0
    seen[inside.stop :] = 0
    from_rows = src[first_row + inside.start : first_row + inside.stop, :, :, images]
    for shift, offset in enumerate(offsets):
        columns = _inside(width, offset, step, src.shape[2])
        part = seen[inside, shift]
        part[:, :, : columns.start] = 0
        part[:, :, columns.stop :] = 0
        if columns.start < columns.stop:
            start = columns.start * step + offset
            end = (columns.stop - 1) * step + offset + 1
            part[:, :, columns] = from_rows[:, :, start:end:step]
    return seen


def overlapping(lines: Host, count: int, height: int, stride: int) -> Host:
    """`count` matrices of `height` rows of `lines` (..., rows, lines of a row, length) each, every `stride` rows a new one.

    They share memory: (..., count, height * lines of a row, length). `lines` has no gaps.
    """
    *outer, _, per_row, length = lines.shape
    *outer_strides, row, line, item = lines.strides
    shape, strides = (*outer, count, height * per_row, length), (*outer_strides, stride * row, line, item)
    return as_strided(lines, shape, strides, writeable=False)


def _inside(count: int, offset: int, step: int, length: int) -> slice:
    """Those k of ``range(count)`` for which ``k step + offset`` lies in ``range(length)``."""
    start = min(max(0, -(offset // step)), count)
    stop = min(max(start, (length - 1 - offset) // step + 1), count)
    return slice(start, stop)
