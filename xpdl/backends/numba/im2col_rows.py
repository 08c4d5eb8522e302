"""Convolution as matrix products, one per row of the output, from windows that are copied row by row.

All arrays are contiguous (H, C, W, N). What a task copies of the windows stays in the cache of a core.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.correlation import Correlation
from xpdl.backends.cpu.partition import halves
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.cpu.workspace import scratch
from xpdl.backends.numba.blas import add_product_of_lines, product
from xpdl.backends.numba.jit import compiled, inline
from xpdl.backends.numba.row_loops import clear, copy, finish
from xpdl.backends.numpy.gemm import unpacked_columns


def correlation(c: Correlation) -> list[thread_pool.Task]:
    """Tasks of a correlation of contiguous images with dilation 1 along H."""
    src, size, operand = c.src, c.size, c.dw_operand
    filters, images = c.out.shape[1], c.out.shape[3]
    rows, _, columns, _ = c.counted(c.out).shape
    steps = c.out_slices[0].start, c.out_slices[0].step, c.out_slices[1].start, c.out_slices[1].step
    weights_of_filter = size[0] * size[1] * src.shape[1]
    matrix = np.empty((0, weights_of_filter), src.dtype) if c.weights is None else c.weights.reshape(filters, -1)
    matrix = np.ascontiguousarray(matrix)
    lower = src.dtype.type(0.0 if c.relu else -np.inf)
    # the system hands out no pages that are never written
    out = np.empty_like(c.out) if c.weights is None else c.out
    bias = np.zeros(filters, src.dtype) if c.b is None else np.ascontiguousarray(c.b)
    blocks = halves(rows, TUNING.compiled_rows_tasks)
    needed = (max(part.stop - part.start for part in blocks) - 1) * c.stride[0] + size[0]
    column = size[1] * src.shape[1] * images
    enough = unpacked_columns(filters, weights_of_filter) // images
    most = max(1, min(columns, enough, TUNING.compiled_rows_task_bytes // (needed * column * src.itemsize)))

    def work(part: slice) -> NDArray | None:
        memory = scratch("windows of rows", ((needed * column + filters * images) * most,), src.dtype)
        sums = np.zeros((0, 0) if operand is None else (weights_of_filter, filters), src.dtype)
        where = part.start, part.stop, columns, most, *steps
        geometry = (*size, *c.stride, *c.pad, c.dilation[1])
        x = out if operand is None else operand
        _correlate(src, matrix, bias, lower, out, geometry, where, memory, x, sums)
        return None if operand is None else sums

    return c.tasks(work, blocks)


@compiled
def _correlate(
    src: Any,
    matrix: Any,
    bias: Any,
    lower: Any,
    out: Any,
    geometry: Any,
    where: Any,
    memory: Any,
    dw_operand: Any,
    sums: Any,
) -> None:
    """Some rows of `out`, some columns at a time; where `sums` has any, what is summed for the filters is added."""
    fh, fw, stride_h, stride_w, pad_h, pad_w, dilation = geometry
    first, last, columns, most, top, down, left, along = where
    height, depth, _, images = src.shape
    filters = out.shape[1]
    needed, per_row = (last - first - 1) * stride_h + fh, fw * depth
    out_lines = out.reshape(out.shape[0], filters, -1)
    operand_lines = dw_operand.reshape(out.shape[0], filters, -1)
    gapless = left == 0 and along == 1
    for begin in range(0, columns, most):
        count = min(most, columns - begin)
        length = count * images
        for r in range(needed):
            line = r * per_row * length
            seen = memory[line : line + per_row * length].reshape(fw, depth, length)
            row = first * stride_h - pad_h + r
            for v in range(fw):
                column = begin * stride_w - pad_w + v * dilation
                for c in range(depth):
                    if 0 <= row < height:
                        _shifted(src[row, c], column, stride_w, seen[v, c])
                    else:
                        clear(seen[v, c])
        for i in range(first, last):
            line = (i - first) * stride_h * per_row * length
            windows = memory[line : line + fh * per_row * length].reshape(fh * per_row, length)
            apart = memory[needed * per_row * length :][: filters * length].reshape(filters, length)
            row, here, end = top + i * down, begin * images, begin * images + length
            if matrix.size:
                target = out_lines[row, :, here:end] if gapless else apart
                product(matrix, windows, target)
                for f in range(filters):
                    finish(target[f], bias[f], lower)
                    if not gapless:
                        for j in range(count):
                            copy(apart[f, j * images : (j + 1) * images], out[row, f, left + (begin + j) * along])
            if sums.size:
                if gapless:
                    add_product_of_lines(windows, operand_lines[row, :, here:end], sums)
                else:
                    for f in range(filters):
                        _shifted(dw_operand[row, f], left + begin * along, along, apart[f])
                    add_product_of_lines(windows, apart, sums)


@inline
def _shifted(source: Any, first: Any, step: Any, out: Any) -> None:
    """Columns `first`, `first` + `step`... of `source` (W, N), 0 outside of it, one after the other into `out`."""
    width, images = source.shape
    count = out.shape[0] // images
    start = min(count, max(0, -(first // step)))
    stop = max(start, min(count, (width - 1 - first) // step + 1))
    clear(out[: start * images])
    clear(out[stop * images :])
    if step == 1:
        lines = source.reshape(-1)
        copy(lines[(first + start) * images : (first + stop) * images], out[start * images : stop * images])
    else:
        for j in range(start, stop):
            copy(source[first + j * step], out[j * images : (j + 1) * images])
