"""The tasks of a convolution, forward or back: what they read, the products they make, and in which of four ways.

Filters of 3 x 3 with many channels take the short way of `compiled.tiles`, or that of `winograd` along W alone; the others
go row by row, in compiled code or by the functions of NumPy that are here.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.partition import cut
from xpdl.backends.numba import loading
from xpdl.backends.numpy import winograd_1d
from xpdl.backends.numpy.gemm import product, sum_of_products, unpacked_columns
from xpdl.backends.numpy.windows import Block, windows

Host = np.ndarray[Any, Any]
Pair = tuple[int, int]
# A place for a sum, and the arrays to be summed.
Sum = tuple[Host, list[Host]]
# Rows and columns of an array, as slices with a start and a step.
Places = tuple[slice, slice]
WHOLE: Places = slice(0, None, 1), slice(0, None, 1)

# Bytes of copied windows in one task.
_TASK_BYTES = 5 << 19
# Multiplications that are worth sharing between threads.
_SHARED_PRODUCTS = 1 << 22
# Columns, images counted, that are enough for quick products.
_TASK_COLUMNS = 400
# Images in one task.
_TASK_IMAGES = 256


def correlation(
    src: Host,
    weights: Host,
    out: Host,
    stride: Pair,
    pad: Pair,
    dilation: Pair,
    b: Host | None = None,
    inputs: Host | None = None,
    parts: list[Host] | None = None,
    rectify: bool = False,
    places: Places = WHOLE,
) -> list[thread_pool.Task]:
    """Tasks that fill the rows and columns `places` of `out`, which alone count in what follows.

    ``out[i, f, j, n] = b[f] + sum over u, v, c of weights[f, u, v, c] src[i sh + u dh - ph, c, j sw + v dw - pw, n]``, where
    `src` is 0 outside its range; `pad` may be negative, and what `out` has beyond the last window too. With `rectify`, what
    would be negative is 0.

    With `inputs`, of which the same places count, the tasks also put into `parts`, one entry each, what is to be summed for
    ``sum over i, j, n of src[i sh + u dh - ph, c, j sw + v dw - pw, n] inputs[i, f, j, n]``, an array (FH * FW * C, F).
    """
    tiles, by_rows = loading.load("xpdl.backends.numba.winograd_2d"), loading.load("xpdl.backends.numba.convolution")
    tasks: list[thread_pool.Task]
    if places == WHOLE and tiles and tiles.serves(src, weights, out, inputs, stride, dilation):
        tasks = tiles.correlation(src, weights, out, pad, b, inputs, parts, rectify)
        return tasks
    seen_out = out[places[0], :, places[1]]
    seen_inputs = None if inputs is None else inputs[places[0], :, places[1]]
    if winograd_1d.serves(weights, seen_out, stride, dilation):
        return winograd_1d.correlation(src, weights, seen_out, pad, b, seen_inputs, parts, rectify)
    size = weights.shape[1], weights.shape[2]
    if by_rows and by_rows.serves(src, out, inputs, dilation):
        tasks = by_rows.correlation(src, weights, size, out, stride, pad, dilation, b, inputs, parts, rectify, places)
        return tasks
    matrix = _with_bias(weights, b)
    blocks = _blocks(seen_out, weights.shape, stride, dilation)

    def task(place: int, block: Block) -> None:
        seen = windows(src, block, size, stride, pad, dilation, with_ones=b is not None)
        rows, columns, images = block
        target = seen_out[rows, :, columns, images]
        if _gapless(target):
            product(matrix, seen, _lines(target))
        else:
            target[...] = np.matmul(matrix, seen).reshape(target.shape)
        if rectify:
            np.maximum(target, 0.0, out=target)
        if seen_inputs is not None and parts is not None:
            parts[place] = sum_of_products(seen, seen_inputs[rows, :, columns, images])

    if parts is not None:
        parts += [matrix] * len(blocks)
    return [functools.partial(task, place, block) for place, block in enumerate(blocks)]


def _with_bias(weights: Host, b: Host | None) -> Host:
    """Filters as rows of a matrix; with `b`, for windows that have a line of ones under each row of the filter."""
    filters, fh, fw, depth = weights.shape
    lines = weights.reshape(filters, fh, fw * depth)
    if b is not None:
        ones = np.zeros((filters, fh, 1), b.dtype)
        ones[:, 0, 0] = b
        lines = np.concatenate([lines, ones], axis=2)
    return lines.reshape(filters, -1)


def _gapless(part: Host) -> bool:
    """Whether the columns of a part of an array (H, C, W, N) follow each other in memory."""
    return part.strides[3] == part.itemsize and part.strides[2] == part.shape[3] * part.itemsize


def _lines(part: Host) -> Host:
    """(H, C, W, N) as a view (H, C, W * N)."""
    shape = (*part.shape[:2], part.shape[2] * part.shape[3])
    return as_strided(part, shape, (*part.strides[:2], part.itemsize))


def weight_gradient(
    dyt: Host,
    src: Host,
    dW: Host,
    stride: Pair,
    pad: Pair,
    dilation: Pair,
    sums: list[Sum],
) -> list[thread_pool.Task]:
    """Tasks for what is to be summed for `dW` (FN, C, FH, FW), where nobody asks for `dx`."""
    filters, depth, fh, fw = dW.shape
    parts: list[Host] = []
    sums.append((dW.transpose(2, 3, 1, 0), parts))
    by_rows = loading.load("xpdl.backends.numba.convolution")
    if by_rows and by_rows.serves(src, dyt, None, dilation):
        tasks: list[thread_pool.Task] = by_rows.correlation(
            src, None, (fh, fw), dyt, stride, pad, dilation, inputs=dyt, parts=parts
        )
        return tasks
    blocks = _blocks(dyt, (filters, fh, fw, depth), stride, dilation)
    parts += [dW] * len(blocks)

    def task(place: int, block: Block) -> None:
        rows, columns, images = block
        seen = windows(src, block, (fh, fw), stride, pad, dilation)
        parts[place] = sum_of_products(seen, dyt[rows, :, columns, images])

    return [functools.partial(task, place, block) for place, block in enumerate(blocks)]


def _blocks(out: Host, weights: tuple[int, ...], stride: Pair, dilation: Pair) -> list[Block]:
    """The parts of `out` (OH, F, OW, N) that make a task, in the order of its rows; they depend on shapes alone."""
    rows, _, width, images = out.shape
    filters, fh, fw, depth = weights
    if out.size * fh * fw * depth <= _SHARED_PRODUCTS:
        return [(slice(0, rows), slice(0, width), slice(0, images))]
    most_images = min(images, _TASK_IMAGES)
    enough = max(unpacked_columns(filters, fh * fw * depth), _TASK_COLUMNS)
    most_columns = max(1, min(width, enough // most_images))
    row_bytes = fw * depth * most_columns * most_images * out.itemsize
    shared = (fh - 1) * dilation[0] + 1 - stride[0]
    # two at least, so that few threads share the work evenly
    most_rows = max(1, min((_TASK_BYTES // row_bytes - shared) // stride[0], -(-rows // 2)))
    return list(itertools.product(cut(rows, most_rows), cut(width, most_columns), cut(images, most_images)))
