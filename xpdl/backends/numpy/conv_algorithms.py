"""Convolution by NumPy's functions, row by row, and the algorithms that these functions have.

A task copies the windows of some rows of the output and multiplies them by the filters.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.lib.stride_tricks import as_strided

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu import choose_algorithm as choice
from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.conv_tasks import Implementations
from xpdl.backends.cpu.correlation import Correlation
from xpdl.backends.cpu.partition import cut
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.numpy import im2col_small_batch, winograd_1d
from xpdl.backends.numpy.gemm import product, sum_of_products, unpacked_columns
from xpdl.backends.numpy.windows import Block, windows


def correlation(c: Correlation) -> list[thread_pool.Task]:
    """Tasks of a correlation by sums of products."""
    out = c.counted(c.out)
    operand = None if c.dw_operand is None else c.counted(c.dw_operand)
    matrix = None if c.weights is None else _with_bias(c.weights, c.b)

    def work(block: Block) -> NDArray | None:
        seen = windows(c.src, block, c.size, c.stride, c.pad, c.dilation, with_ones=c.b is not None)
        rows, columns, images = block
        if matrix is not None:
            _fill(matrix, seen, out[rows, :, columns, images], c.relu)
        return None if operand is None else sum_of_products(seen, operand[rows, :, columns, images])

    return c.tasks(work, _blocks(out, c))


def _fill(matrix: NDArray, seen: NDArray, target: NDArray, relu: bool) -> None:
    """`target` (rows, F, columns, images) becomes the products of filters with windows."""
    if _gapless(target):
        product(matrix, seen, _lines(target))
    else:
        target[...] = np.matmul(matrix, seen).reshape(target.shape)
    if relu:
        np.maximum(target, 0.0, out=target)


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


def _blocks(out: NDArray, c: Correlation) -> list[Block]:
    """The parts of `out` (OH, F, OW, N) that make a task, in the order of its rows; they depend on shapes alone."""
    rows, filters, width, images = out.shape
    (fh, fw), depth, stride = c.size, c.src.shape[1], c.stride
    if out.size * fh * fw * depth <= TUNING.rows_shared_products:
        return [(slice(0, rows), slice(0, width), slice(0, images))]
    most_images = min(images, TUNING.rows_task_images)
    enough = max(unpacked_columns(filters, fh * fw * depth), TUNING.rows_task_columns)
    most_columns = max(1, min(width, enough // most_images))
    row_bytes = fw * depth * most_columns * most_images * out.itemsize
    shared = (fh - 1) * c.dilation[0] + 1 - stride[0]
    # two at lower, so that few threads share the work evenly
    most_rows = max(1, min((TUNING.rows_task_bytes // row_bytes - shared) // stride[0], -(-rows // 2)))
    return list(itertools.product(cut(rows, most_rows), cut(width, most_columns), cut(images, most_images)))


IMPLEMENTATIONS = Implementations(
    compiled=False,
    of_images=im2col_small_batch.convolution,
    of_correlations={choice.WINOGRAD_1D: winograd_1d.correlation, choice.ROWS: correlation},
)
