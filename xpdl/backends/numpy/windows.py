"""Windows of a convolution, copied out of images in the memory order (H, C, W, N)."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from xpdl.backends.arrays import NDArray, Pair
from xpdl.backends.cpu.workspace import reuse_padding, scratch

# rows, columns and images of an output
Block = tuple[slice, slice, slice]


def windows(
    src: NDArray, block: Block, size: Pair, stride: Pair, pad: Pair, dilation: Pair, *, with_ones: bool = False
) -> NDArray:
    """Return the windows of `size` in `src` (H, C, W, N) for a block of the output: (rows, FH * FW * C, columns * images).

    `with_ones` adds a line of ones to each row of the filter, (rows, FH * (FW * C + 1), columns * images), for the bias.

    Only the shifts along W are copied, into scratch memory: the rows under a filter lie one after the other in it, and the
    matrices of neighbouring outputs share them.
    """
    rows, columns, images = block
    (fh, fw), count, width = size, rows.stop - rows.start, columns.stop - columns.start
    needed = (count - 1) * stride[0] + (fh - 1) * dilation[0] + 1
    offsets = [tap * dilation[1] - pad[1] + columns.start * stride[1] for tap in range(fw)]
    images_seen = images.stop - images.start
    depth = src.shape[1]
    shape = (needed, fw * depth + with_ones, width, images_seen)
    memory = scratch("windows", shape, src.dtype)
    seen = memory[:, : fw * depth].reshape(needed, fw, depth, width, images_seen)
    with reuse_padding("windows", (shape, src.dtype, with_ones, src.shape[2], *offsets, stride[1])) as there:
        gather(src[:, :, :, images], rows.start * stride[0] - pad[0], offsets, stride[1], seen, borders=not there)
        if with_ones and not there:
            memory[:, fw * depth :] = 1
    lines = memory.reshape(*memory.shape[:2], -1)
    if dilation[0] == 1:
        return overlapping(lines, count, fh, stride[0])
    taps = [lines[u * dilation[0] : u * dilation[0] + (count - 1) * stride[0] + 1 : stride[0]] for u in range(fh)]
    return np.stack(taps, axis=1).reshape(count, -1, lines.shape[2])


def overlapping(lines: NDArray, count: int, height: int, stride: int) -> NDArray:
    """`count` matrices of `height` rows of `lines` (..., rows, lines of a row, length) each, every `stride` rows a new one.

    They share memory: (..., count, height * lines of a row, length). `lines` has no gaps.
    """
    *outer, _, per_row, length = lines.shape
    *outer_strides, row, line, item = lines.strides
    shape, strides = (*outer, count, height * per_row, length), (*outer_strides, stride * row, line, item)
    return as_strided(lines, shape, strides, writeable=False)


def gather(src: NDArray, first_row: int, offsets: list[int], step: int, seen: NDArray, *, borders: bool = True) -> None:
    """Fill `seen` (rows, shifts, C, width, N): entry ``[i, k, c, j]`` is ``src[first_row + i, c, offsets[k] + j step]``.

    It is 0 where that is outside of `src` (H, C, W, N). With ``borders=False`` the columns outside are 0 already.
    """
    inside = _inside(len(seen), first_row, 1, len(src))
    if inside.start > 0:
        seen[: inside.start] = 0
    if inside.stop < len(seen):
        seen[inside.stop :] = 0
    from_rows = src[first_row + inside.start : first_row + inside.stop]
    for shift, offset in enumerate(offsets):
        columns = _inside(seen.shape[3], offset, step, src.shape[2])
        part = seen[:, shift]
        if borders:
            part[:, :, : columns.start] = 0
            part[:, :, columns.stop :] = 0
        if columns.start < columns.stop:
            start = columns.start * step + offset
            end = (columns.stop - 1) * step + offset + 1
            part[inside, :, columns] = from_rows[:, :, start:end:step]


def _inside(count: int, offset: int, step: int, length: int) -> slice:
    """Those k of ``range(count)`` for which ``k step + offset`` lies in ``range(length)``."""
    start = min(max(0, -(offset // step)), count)
    stop = min(max(start, (length - 1 - offset) // step + 1), count)
    return slice(start, stop)
