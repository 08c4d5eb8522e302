"""The tasks of a convolution by NumPy's functions: what they read, the products they make, and in which of two ways.

Filters of width 3 with many channels take the short way of `winograd_1d`; the others go row by row.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
from numpy.lib.stride_tricks import as_strided

from xpdl.backends.arrays import NDArray, Pair
from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.conv_tasks import WHOLE, Slices, Sum
from xpdl.backends.cpu.partition import cut
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.numpy import winograd_1d
from xpdl.backends.numpy.gemm import product, sum_of_products, unpacked_columns
from xpdl.backends.numpy.windows import Block, windows


def as_source(inner: NDArray) -> NDArray:
    """Images (H, C, W, N) in the order of memory in which they come: windows are copied out of them once."""
    return inner


def correlation(
    src: NDArray,
    weights: NDArray,
    out: NDArray,
    stride: Pair,
    pad: Pair,
    dilation: Pair,
    b: NDArray | None = None,
    dw_operand: NDArray | None = None,
    partials: list[NDArray] | None = None,
    relu: bool = False,
    out_slices: Slices = WHOLE,
) -> list[thread_pool.Task]:
    """As `xpdl.backends.cpu.conv_tasks.Algorithms.correlation`."""
    seen_out = out[out_slices[0], :, out_slices[1]]
    seen_operand = None if dw_operand is None else dw_operand[out_slices[0], :, out_slices[1]]
    if winograd_1d.supports(weights, seen_out, stride, dilation):
        return winograd_1d.correlation(src, weights, seen_out, pad, b, seen_operand, partials, relu)
    size = weights.shape[1], weights.shape[2]
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
        if relu:
            np.maximum(target, 0.0, out=target)
        if seen_operand is not None and partials is not None:
            partials[place] = sum_of_products(seen, seen_operand[rows, :, columns, images])

    if partials is not None:
        partials += [matrix] * len(blocks)
    return [functools.partial(task, place, block) for place, block in enumerate(blocks)]


def _with_bias(weights: NDArray, b: NDArray | None) -> NDArray:
    """Filters as rows of a matrix; with `b`, for windows that have a line of ones under each row of the filter."""
    filters, fh, fw, depth = weights.shape
    lines = weights.reshape(filters, fh, fw * depth)
    if b is not None:
        ones = np.zeros((filters, fh, 1), b.dtype)
        ones[:, 0, 0] = b
        lines = np.concatenate([lines, ones], axis=2)
    return lines.reshape(filters, -1)


def _gapless(part: NDArray) -> bool:
    """Return whether the columns of a part of an array (H, C, W, N) follow each other in memory."""
    return part.strides[3] == part.itemsize and part.strides[2] == part.shape[3] * part.itemsize


def _lines(part: NDArray) -> NDArray:
    """(H, C, W, N) as a view (H, C, W * N)."""
    shape = (*part.shape[:2], part.shape[2] * part.shape[3])
    return as_strided(part, shape, (*part.strides[:2], part.itemsize))


def weight_gradient(
    dyt: NDArray,
    src: NDArray,
    dW: NDArray,
    stride: Pair,
    pad: Pair,
    dilation: Pair,
    sums: list[Sum],
) -> list[thread_pool.Task]:
    """As `xpdl.backends.cpu.conv_tasks.Algorithms.weight_gradient`."""
    filters, depth, fh, fw = dW.shape
    partials: list[NDArray] = []
    sums.append((dW.transpose(2, 3, 1, 0), partials))
    blocks = _blocks(dyt, (filters, fh, fw, depth), stride, dilation)
    partials += [dW] * len(blocks)

    def task(place: int, block: Block) -> None:
        rows, columns, images = block
        seen = windows(src, block, (fh, fw), stride, pad, dilation)
        partials[place] = sum_of_products(seen, dyt[rows, :, columns, images])

    return [functools.partial(task, place, block) for place, block in enumerate(blocks)]


def _blocks(out: NDArray, weights: tuple[int, ...], stride: Pair, dilation: Pair) -> list[Block]:
    """The parts of `out` (OH, F, OW, N) that make a task, in the order of its rows; they depend on shapes alone."""
    rows, _, width, images = out.shape
    filters, fh, fw, depth = weights
    if out.size * fh * fw * depth <= TUNING.rows_shared_products:
        return [(slice(0, rows), slice(0, width), slice(0, images))]
    most_images = min(images, TUNING.rows_task_images)
    enough = max(unpacked_columns(filters, fh * fw * depth), TUNING.rows_task_columns)
    most_columns = max(1, min(width, enough // most_images))
    row_bytes = fw * depth * most_columns * most_images * out.itemsize
    shared = (fh - 1) * dilation[0] + 1 - stride[0]
    # two at lower, so that few threads share the work evenly
    most_rows = max(1, min((TUNING.rows_task_bytes // row_bytes - shared) // stride[0], -(-rows // 2)))
    return list(itertools.product(cut(rows, most_rows), cut(width, most_columns), cut(images, most_images)))
