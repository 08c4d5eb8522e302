"""Few images, each convolved by itself: a part of the image is copied at once for each weight of a filter."""

from __future__ import annotations

import functools
from typing import Any

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu.contiguous import read_only
from xpdl.backends.cpu.workspace import scratch
from xpdl.backends.numba.blas import product
from xpdl.backends.numba.jit import compiled, inline
from xpdl.backends.numba.row_loops import clear, copy, finish
from xpdl.backends.numpy import im2col_small_batch as pure


def _fill(
    image: NDArray,
    weights: NDArray,
    bias: NDArray,
    lower: Any,
    out: NDArray,
    geometry: tuple[int, ...],
    first: int,
    last: int,
) -> None:
    memory = scratch("windows of an image", (weights.shape[1] * (last - first) * out.shape[2],), image.dtype)
    _fill_rows(read_only(image), read_only(weights), read_only(bias), lower, out, geometry, first, last, memory)


#: as `xpdl.backends.numpy.im2col_small_batch.convolution`
convolution = functools.partial(pure.convolution, compiled_fill=_fill)


@compiled
def _fill_rows(
    image: Any,
    weights: Any,
    bias: Any,
    lower: Any,
    out: Any,
    geometry: Any,
    first: Any,
    last: Any,
    memory: Any,
) -> None:
    """As `xpdl.backends.numpy.im2col_small_batch._fill`, with `memory` for the windows."""
    fh, fw, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w = geometry
    depth, height, width = image.shape
    columns = out.shape[2]
    length = (last - first) * columns
    windows = memory[: depth * fh * fw * length].reshape(-1, length)
    for c in range(depth):
        plane = image[c].reshape(-1)
        for u in range(fh):
            for v in range(fw):
                line = windows[(c * fh + u) * fw + v]
                row, column = u * dilation_h - pad_h, v * dilation_w - pad_w
                top, bottom = _inside(row, stride_h, height, first, last)
                left, right = _inside(column, stride_w, width, 0, columns)
                if left == right:
                    bottom = top
                clear(line[: (top - first) * columns])
                clear(line[(bottom - first) * columns :])
                if stride_h == 1 and stride_w == 1 and columns == width:
                    if top < bottom:
                        # a line of the image after the other, but for what is before the first and behind the last column
                        begin, end = (top - first) * width + left, (bottom - first - 1) * width + right
                        start = (top + row) * width + column + left
                        copy(plane[start : start + end - begin], line[begin:end])
                        for i in range(top - first, bottom - first):
                            for j in range(left):
                                line[i * width + j] = 0
                            for j in range(right, width):
                                line[i * width + j] = 0
                else:
                    for i in range(top, bottom):
                        at, start = (i - first) * columns, (i * stride_h + row) * width + column
                        for j in range(left):
                            line[at + j] = 0
                        for j in range(left, right):
                            line[at + j] = plane[start + j * stride_w]
                        for j in range(right, columns):
                            line[at + j] = 0
    target = out.reshape(out.shape[0], -1)[:, first * columns : last * columns]
    product(weights, windows, target)
    for f in range(out.shape[0]):
        finish(target[f], bias[f], lower)


@inline
def _inside(shift: Any, step: Any, length: Any, first: Any, last: Any) -> Any:
    """Those i of ``range(first, last)`` with ``0 <= shift + i * step < length``: the first, and the end."""
    start = min(last, max(first, -(shift // step)))
    return start, max(start, min(last, (length - 1 - shift) // step + 1))
