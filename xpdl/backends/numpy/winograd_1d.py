"""Filters three wide at stride 1: two columns of the output from four products instead of six.

Winograd's minimal filtering F(2, 3) along W (Lavin & Gray, arXiv:1509.09308, section 4.1). For inputs ``d0 d1 d2 d3`` and a
filter ``g0 g1 g2`` the two outputs are ``m0 + m1 + m2`` and ``m1 - m2 - m3`` with

    m0 = (d0 - d2) g0                        m1 = (d1 + d2) (g0 + g1 + g2) / 2
    m3 = (d1 - d3) g2                        m2 = (d2 - d1) (g0 - g1 + g2) / 2

summed over channels and rows of the filter by products of matrices. Even and odd columns are copied apart first: then a
neighbour is at the same distance everywhere, and all sums run over contiguous memory, which NumPy does three times as
quickly. What they make of the end of one line and the beginning of the next is skipped by the products.

Errors are about twice those of plain sums. A window that holds an infinity may give NaN where plain sums give infinity.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.lib.stride_tricks import as_strided

from xpdl.backends.arrays import NDArray, Pair
from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.correlation import Correlation
from xpdl.backends.cpu.partition import cut
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.cpu.workspace import reuse_padding, scratch
from xpdl.backends.numpy.gemm import unpacked_columns
from xpdl.backends.numpy.windows import Block, gather


def correlation(c: Correlation) -> list[thread_pool.Task]:
    """Tasks of a correlation with stride and dilation 1, and filters 3 wide."""
    assert c.weights is not None
    height, transformed = c.size[0], _filters(c.weights)
    out = c.counted(c.out)
    operand = None if c.dw_operand is None else c.counted(c.dw_operand)

    def work(block: Block) -> NDArray | None:
        rows, columns, images = block
        target = out[rows, :, columns, images]
        sums = _sums(c.src, block, height, c.pad)
        _outputs(transformed, sums, c.b, target)
        if c.relu:
            np.maximum(target, 0.0, out=target)
        return None if operand is None else _weight_gradient(sums, operand[rows, :, columns, images], height)

    return c.tasks(work, _blocks(out, height, c.src.shape[1]))


def _filters(weights: NDArray) -> NDArray:
    """Filters (F, FH, 3, C) as those of the four products, (4, F, FH * C)."""
    first, middle, last = weights.transpose(2, 0, 1, 3)
    outer = first + last
    return np.stack([first, (outer + middle) / 2, (outer - middle) / 2, last]).reshape(4, len(weights), -1)


def _sums(src: NDArray, block: Block, height: int, pad: Pair) -> NDArray:
    """The four sums of inputs for each pair of columns of a block, (4, rows, C, pairs + 1, images); the last is none."""
    rows, columns, images = block
    pairs = -(-(columns.stop - columns.start) // 2)
    needed = rows.stop - rows.start + height - 1
    shape = (needed, src.shape[1], pairs + 1, images.stop - images.start)
    planes = scratch("planes", (2, *shape), src.dtype)
    start = columns.start - pad[1]
    with reuse_padding("planes", (shape, src.dtype, src.shape[2], start)) as there:
        seen = planes.swapaxes(0, 1)
        gather(src[:, :, :, images], rows.start - pad[0], [start, start + 1], 2, seen, borders=not there)
    sums = scratch("sums", (4, *shape), src.dtype)
    lines, step = planes.reshape(2, -1), shape[3]
    here, following = lines[:, :-step], lines[:, step:]
    of_sums = sums.reshape(4, -1)[:, :-step]
    np.subtract(here, following, out=of_sums[::3])
    np.add(here[1], following[0], out=of_sums[1])
    np.subtract(following[0], here[1], out=of_sums[2])
    return sums


def _outputs(filters: NDArray, sums: NDArray, b: NDArray | None, target: NDArray) -> None:
    """Fill `target` (rows, F, columns, images)."""
    rows, _, columns, images = target.shape
    count, pairs = filters.shape[1], sums.shape[3] - 1
    seen = _as_matrices(sums, rows, filters.shape[2], count)
    products = scratch("products", (4, rows, count, pairs, images), sums.dtype)
    across, width = seen.shape[2], seen.shape[4]
    line = products.strides[2]
    lines = as_strided(
        products,
        (4, rows, across, count, width),
        (*products.strides[:2], width * products.itemsize, line, products.itemsize),
    )
    np.matmul(filters[:, None, None], seen, out=lines)
    if b is not None:
        # both columns have it once
        products[1] += b[:, None, None]
    first, plus, minus, last = products.reshape(4, -1)
    first += plus
    first += minus
    plus -= minus
    plus -= last
    target[:, :, ::2] = products[0]
    target[:, :, 1::2] = products[1, :, :, : columns // 2]


def _weight_gradient(sums: NDArray, x: NDArray, height: int) -> NDArray:
    """Windows times `x` (rows, F, columns, images), summed over all but channels: (FH * 3 * C, F)."""
    rows, count, columns, images = x.shape
    depth, pairs = sums.shape[2], sums.shape[3] - 1
    # images and columns before channels: BLAS is quicker on matrices of that order
    lines = scratch("lines", (4, rows, pairs, images, count), x.dtype)
    x = x.transpose(0, 2, 3, 1)
    lines[0] = x[:, ::2]
    lines[3, :, : columns // 2] = x[:, 1::2]
    lines[3, :, columns // 2 :] = 0
    np.add(lines[0], lines[3], out=lines[1])
    np.subtract(lines[0], lines[3], out=lines[2])
    seen = _as_matrices(sums, rows, height * depth, count)
    products = np.matmul(seen, lines.reshape(4, rows, seen.shape[2], seen.shape[4], count))
    first, plus, minus, last = products.sum(axis=(1, 2)).reshape(4, height, depth, count)
    outer = (plus + minus) / 2
    return np.stack([first + outer, (plus - minus) / 2, outer - last], axis=1).reshape(-1, count)


def _as_matrices(sums: NDArray, rows: int, lines: int, count: int) -> NDArray:
    """The sums as matrices to be multiplied by `count` filters: (4, rows, parts of a row, lines, columns * images)."""
    _, _, _, with_last, images = sums.shape
    pairs = with_last - 1
    unpacked = unpacked_columns(count, lines)
    most = (unpacked if unpacked >= TUNING.winograd_1d_few_columns else TUNING.winograd_1d_packed_columns) // images
    width = next(width for width in range(min(pairs, max(1, most)), 0, -1) if pairs % width == 0)
    outer, row, line, column, item = sums.strides
    shape = (4, rows, pairs // width, lines, width * images)
    return as_strided(sums, shape, (outer, row, width * column, line, item), writeable=False)


def _blocks(out: NDArray, height: int, depth: int) -> list[Block]:
    """The parts of `out` (OH, F, OW, N) that make a task, in the order of its rows; they depend on shapes alone."""
    rows, filters, columns, images = out.shape
    most_images, task_bytes = min(images, TUNING.winograd_1d_task_images), TUNING.winograd_1d_task_bytes
    # of one pair of columns: what a row more takes, and what the rows under the filter take besides
    pair, more = 4 * most_images * out.itemsize * (depth + filters), 4 * most_images * out.itemsize * depth
    most_pairs = max(1, min(-(-columns // 2), task_bytes // (pair + more * (height - 1)) - 1))
    most_rows = max(1, (task_bytes // (most_pairs + 1) - more * (height - 1)) // pair)
    # an even number, which few threads share evenly
    most_rows = -(-rows // (2 * -(-rows // (2 * most_rows))))
    by_pairs = [slice(2 * part.start, min(2 * part.stop, columns)) for part in cut(-(-columns // 2), most_pairs)]
    return list(itertools.product(cut(rows, most_rows), by_pairs, cut(images, most_images)))
