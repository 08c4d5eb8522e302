"""Stacks of matrix products, cut so that BLAS is quick with them.

OpenBLAS multiplies small matrices as they lie. Larger ones it packs first, which costs narrow ones a third: a long product
is cut along its columns, for which nothing is copied. With 16 filters of 144 weights and 1600 columns, on one thread of a
Xeon with AVX-512, 125 instead of 76 GFLOP/s.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.cpu.workspace import scratch

# A multiple of it begins a line of the cache.
_ALIGNED = 16


def product(weights: NDArray, seen: NDArray, out: NDArray) -> None:
    """Fill `out` (rows, F, columns) with the products of `weights` (F, K) and `seen` (rows, K, columns)."""
    width = _width(len(weights), weights.shape[1], seen.shape[2])
    for part, into in zip(_pieces(seen, width), _pieces(out, width), strict=True):
        np.matmul(weights, part, out=into)


def sum_of_products(seen: NDArray, x: NDArray) -> NDArray:
    """`seen` (rows, K, columns * images) times `x` (rows, F, columns, images), summed over rows, columns, images: (K, F)."""
    rows, filters, columns, images = x.shape
    _, weights, length = seen.shape
    width = _width(filters, weights, length)
    if weights >= TUNING.gemm_transposed_weights and width <= unpacked_columns(filters, weights):
        # as they lie, matrices are quicker to multiply along their lines
        lines = scratch("lines", (rows, columns, images, filters), x.dtype)
        lines[...] = x.transpose(0, 2, 3, 1)
        factor = lines.reshape(rows, length, filters).swapaxes(1, 2)
    else:
        lines = scratch("lines", x.shape, x.dtype)
        lines[...] = x
        factor = lines.reshape(rows, filters, length)
    sums = [
        np.matmul(part, other.swapaxes(2, 3)).sum(axis=(0, 1))
        for part, other in zip(_pieces(seen, width), _pieces(factor, width), strict=True)
    ]
    return sums[0] if len(sums) == 1 else sums[0] + sums[1]


def unpacked_columns(filters: int, weights: int) -> int:
    """The columns that BLAS multiplies by so many filters as they lie."""
    return TUNING.gemm_unpacked_products // (filters * weights)


def _width(filters: int, weights: int, columns: int) -> int:
    """The columns of one product."""
    most = unpacked_columns(filters, weights)
    if columns <= most or most < TUNING.gemm_few_columns or filters >= TUNING.gemm_many_filters:
        return columns
    count = -(-columns // most)
    return min(-(-columns // count // _ALIGNED), most // _ALIGNED) * _ALIGNED


def _pieces(x: NDArray, width: int) -> Iterator[NDArray]:
    """(rows, lines, columns) as (rows, pieces, lines, width), and what is left of the columns as one piece more."""
    rows, lines, columns = x.shape
    whole, rest = divmod(columns, width)
    row, line, item = x.strides
    yield as_strided(x, (rows, whole, lines, width), (row, width * item, line, item))
    if rest:
        yield x[:, np.newaxis, :, -rest:]
