"""Filters of 3 x 3 at stride 1: four outputs from sixteen products instead of 36.

Winograd's minimal filtering F(2 x 2, 3 x 3) (Lavin & Gray, arXiv:1509.09308, section 4.1): what
`xpdl.backends.numpy.winograd_1d` does along W, here along both axes. A tile of four outputs sees four lines of four inputs;
along each axis these four, d, become

    d0 - d2,  d1 + d2,  d2 - d1,  d1 - d3

and the products m of them with the filter, summed over channels, become two outputs, m0 + m1 + m2 and m1 - m2 - m3.
A filter g becomes g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2. The gradient of the filter takes the same way back.

Lines are images of a batch: all loops run over them, or over the tiles of a row as well. For normal random images of 14 x 14
and 64 channels, errors are 0.7 times those of plain sums in outputs and `dx`, and 2.8 times in the filters' gradient, all
below 6e-7 of the largest value. A window that holds an infinity may give NaN where plain sums give infinity.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.correlation import Correlation
from xpdl.backends.cpu.partition import cut, halves
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.cpu.workspace import scratch
from xpdl.backends.numba.blas import add_product_of_lines, product
from xpdl.backends.numba.jit import compiled, inline
from xpdl.backends.numba.row_loops import clear, copy, finish

# Of nine weights what is summed for each of sixteen products; the fourth along an axis has the other sign.
_ALONG_AN_AXIS = np.array([[1, 0.5, 0.5, 0], [0, 0.5, -0.5, 0], [0, 0.5, 0.5, -1]], np.float32)
_GRADIENTS = np.kron(_ALONG_AN_AXIS, _ALONG_AN_AXIS)


def correlation(c: Correlation) -> list[thread_pool.Task]:
    """Tasks of a correlation of contiguous images with stride and dilation 1, and filters 3 x 3."""
    assert c.weights is not None
    src, out, operand = c.src, c.out, c.dw_operand
    filters, depth = len(c.weights), c.src.shape[1]
    transformed = _transformed(c.weights)
    bias = np.zeros(filters, src.dtype) if c.b is None else np.ascontiguousarray(c.b)
    lower = src.dtype.type(0.0 if c.relu else -np.inf)
    rows, columns, images = -(-out.shape[0] // 2), -(-out.shape[2] // 2), out.shape[3]
    many_channels = depth + filters >= TUNING.winograd_2d_many_channels
    most = TUNING.winograd_2d_fewer_columns if many_channels else TUNING.winograd_2d_columns

    def work(block: tuple[slice, slice]) -> NDArray | None:
        part, seen = block
        tiles = min(columns, max(1, most // (seen.stop - seen.start)))
        where = part.start, part.stop, tiles, seen.start, seen.stop
        memory = scratch("tiles", (_needed(depth, filters, tiles * (seen.stop - seen.start)),), src.dtype)
        sums = np.zeros((0, 0, 0, 0) if operand is None else (4, 4, depth, filters), src.dtype)
        x = out if operand is None else operand
        _correlate(src, transformed, bias, lower, out, c.pad, where, memory, x, sums)
        return None if operand is None else _transformed_back(sums)

    blocks = itertools.product(halves(rows, TUNING.winograd_2d_tasks), cut(images, TUNING.winograd_2d_task_images))
    return c.tasks(work, blocks)


def _transformed(weights: NDArray) -> NDArray:
    """Filters (F, 3, 3, C) as those of the products, (4, 4, F, C)."""
    # BLAS takes contiguous rows; the weights may come in another order
    return np.ascontiguousarray(_along_first(_along_first(weights.transpose(2, 1, 0, 3)).swapaxes(0, 1)))


def _along_first(weights: NDArray) -> NDArray:
    # sums rather than a product of matrices: BLAS is not held to one thread here, and its threads stay awake for long
    first, middle, last = weights
    outer = first + last
    return np.stack([first, (outer + middle) / 2, (outer - middle) / 2, last])


def _transformed_back(sums: NDArray) -> NDArray:
    """Sums (4, 4, C, F) of products as the gradient of filters, (3 * 3 * C, F)."""
    lines: NDArray = np.matmul(_GRADIENTS, sums.reshape(16, -1))
    return lines.reshape(-1, sums.shape[3])


def _needed(depth: int, filters: int, columns: int) -> int:
    """The floats of memory that a task works with; one tile more than there are for the borders."""
    return 16 * (depth + filters) * columns + 8 * 2 * columns


@compiled
def _correlate(
    src: Any,
    filters: Any,
    bias: Any,
    lower: Any,
    out: Any,
    pad: Any,
    where: Any,
    memory: Any,
    dw_operand: Any,
    sums: Any,
) -> None:
    """Some rows of tiles of `out`, some tiles at a time; where `sums` has any, what is summed for the filters is added."""
    depth, count = src.shape[1], out.shape[1]
    first, last, most, start, stop = where
    for i in range(first, last):
        rows = min(2, out.shape[0] - 2 * i)
        for begin in range(0, out.shape[2], 2 * most):
            columns = min(2 * most, out.shape[2] - begin)
            length = (columns + 1) // 2 * (stop - start)
            split, rest = memory[: 8 * (length + stop - start)], memory[8 * (length + stop - start) :]
            seen = rest[: 16 * depth * length].reshape(4, 4, depth, length)
            products = rest[16 * depth * length : 16 * (depth + count) * length].reshape(4, 4, count, length)
            _inputs(src, 2 * i - pad[0], begin - pad[1], start, split.reshape(4, 2, -1), seen)
            for u in range(4):
                for v in range(4):
                    product(filters[u, v], seen[u, v], products[u, v])
            halves = split[: 8 * length].reshape(4, 2, length)
            _outputs(products, bias, lower, out[2 * i : 2 * i + rows, :, begin : begin + columns, start:stop], halves)
            if sums.size:
                _spread(dw_operand[2 * i : 2 * i + rows, :, begin : begin + columns, start:stop], halves, products)
                for u in range(4):
                    for v in range(4):
                        add_product_of_lines(seen[u, v], products[u, v], sums[u, v])


@inline
def _inputs(src: Any, row: int, column: int, start: int, split: Any, seen: Any) -> None:
    """The sixteen sums of what a row of tiles sees, (4, 4, C, tiles * images); its first window begins at `row`, `column`.

    `split` (4, 2, (tiles + 1) * images) takes the sums along H, of even and odd columns apart: then a neighbour is at the
    same distance everywhere.
    """
    height, depth, width, _ = src.shape
    tiles = split.shape[2] - seen.shape[3]
    images = tiles
    columns = 2 * (split.shape[2] // images)
    left = min(max(0, -column), columns)
    right = max(left, min(columns, width - column))
    inside = row >= 0 and row + 4 <= height
    bordered = np.zeros((4, images), src.dtype)
    for j in range(columns):
        if j < left or j >= right:
            for u in range(4):
                clear(split[u, j % 2, j // 2 * images : (j // 2 + 1) * images])
    for c in range(depth):
        for j in range(left, right):
            q, half, here, end = column + j, j % 2, j // 2 * images, (j // 2 + 1) * images
            a, b, d, e = (
                split[0, half, here:end],
                split[1, half, here:end],
                split[2, half, here:end],
                split[3, half, here:end],
            )
            if inside:
                _sums(
                    src[row, c, q, start:],
                    src[row + 1, c, q, start:],
                    src[row + 2, c, q, start:],
                    src[row + 3, c, q, start:],
                    a,
                    b,
                    d,
                    e,
                )
            else:
                for u in range(4):
                    if 0 <= row + u < height:
                        copy(src[row + u, c, q, start:], bordered[u])
                _sums(bordered[0], bordered[1], bordered[2], bordered[3], a, b, d, e)
        for u in range(4):
            even, odd = split[u, 0], split[u, 1]
            _sums(even, odd, even[images:], odd[images:], seen[u, 0, c], seen[u, 1, c], seen[u, 2, c], seen[u, 3, c])


@inline
def _sums(d0: Any, d1: Any, d2: Any, d3: Any, s0: Any, s1: Any, s2: Any, s3: Any) -> None:
    for k in range(s0.shape[0]):
        a, b, c, d = d0[k], d1[k], d2[k], d3[k]
        s0[k] = a - c
        s1[k] = b + c
        s2[k] = c - b
        s3[k] = b - d


@inline
def _outputs(products: Any, bias: Any, lower: Any, out: Any, halves: Any) -> None:
    """Fill `out` (1 or 2 rows, F, columns, images) from the products (4, 4, F, tiles * images)."""
    rows, count, columns, images = out.shape
    unwanted = np.empty(images, out.dtype)
    first, second = halves[:, 0], halves[:, 1]
    for f in range(count):
        for v in range(4):
            _two(products[0, v, f], products[1, v, f], products[2, v, f], products[3, v, f], first[v], second[v])
        for p in range(rows):
            h = first if p == 0 else second
            for j in range((columns + 1) // 2):
                here, end = j * images, (j + 1) * images
                right = out[p, f, 2 * j + 1] if 2 * j + 1 < columns else unwanted
                left, m0, m1, m2, m3 = out[p, f, 2 * j], h[0, here:end], h[1, here:end], h[2, here:end], h[3, here:end]
                _two(m0, m1, m2, m3, left, right)
                finish(left, bias[f], lower)
                finish(right, bias[f], lower)


@inline
def _two(m0: Any, m1: Any, m2: Any, m3: Any, y0: Any, y1: Any) -> None:
    for k in range(y0.shape[0]):
        y0[k] = m0[k] + (m1[k] + m2[k])
        y1[k] = (m1[k] - m2[k]) - m3[k]


@inline
def _spread(x: Any, halves: Any, spread: Any) -> None:
    """Transform `x` (1 or 2 rows, F, columns, images) for the products, (4, 4, F, tiles * images), but for signs."""
    rows, count, columns, images = x.shape
    length = spread.shape[3]
    if columns % 2:
        for u in range(4):
            clear(halves[u, 1, length - images :])
    for f in range(count):
        for j in range(columns):
            half, here, end = j % 2, j // 2 * images, (j // 2 + 1) * images
            a, b, c, d = (
                halves[0, half, here:end],
                halves[1, half, here:end],
                halves[2, half, here:end],
                halves[3, half, here:end],
            )
            if rows == 2:
                _four(x[0, f, j], x[1, f, j], a, b, c, d)
            else:
                copy(x[0, f, j], a)
                copy(x[0, f, j], b)
                copy(x[0, f, j], c)
                clear(d)
        for u in range(4):
            _four(halves[u, 0], halves[u, 1], spread[u, 0, f], spread[u, 1, f], spread[u, 2, f], spread[u, 3, f])


@inline
def _four(x0: Any, x1: Any, s0: Any, s1: Any, s2: Any, s3: Any) -> None:
    for k in range(s0.shape[0]):
        a, b = x0[k], x1[k]
        s0[k] = a
        s1[k] = a + b
        s2[k] = a - b
        s3[k] = b
