"""Convolution of few images, each by itself: windows are copied as a matrix, and one product makes all channels of a result.

With images innermost, lines of one or two floats would be copied. Here lines go along W, as images lie when they come one by
one: in the order (N, C, H, W), in which the result is made, too.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from xpdl.backends.cpu import buffer_pool, thread_pool
from xpdl.backends.cpu.partition import cut
from xpdl.backends.cpu.workspace import scratch
from xpdl.backends.numba import loading

Host = np.ndarray[Any, Any]
Pair = tuple[int, int]

# Images from which on it is quicker to have them innermost: by NumPy's functions, and in compiled code.
MANY = 4
MANY_COMPILED = 8
# Bytes of copied windows in one task.
_TASK_BYTES = 1 << 20
# Multiplications up to which BLAS neither copies matrices nor orders them anew, where compiled code asks for one product,
# and columns of that at the least.
_PRODUCT = 1_000_000
_COLUMNS = 64
# Multiplications of a task that are worth waking a thread for.
_SHARED_PRODUCTS = 1 << 23


def serves(x: Host) -> bool:
    """Whether so many images are few."""
    return len(x) < (MANY if loading.load("xpdl.backends.numba.im2col_small_batch") is None else MANY_COMPILED)


def convolution(
    x: Host, W: Host, b: Host | None, out: Pair, stride: Pair, pad: Pair, dilation: Pair, groups: int, *, rectify: bool
) -> Host:
    """The convolution of `x` (N, C, H, W), (N, FN, *out) in that order of memory."""
    x, W = np.ascontiguousarray(x), np.ascontiguousarray(W)
    y = buffer_pool.empty((len(x), len(W), *out), x.dtype)
    filters, per_filter = len(W) // groups, W[0].size
    code = loading.load("xpdl.backends.numba.im2col_small_batch")
    fill = _fill if code is None else functools.partial(_fill_compiled, code.fill)
    most = _TASK_BYTES // (per_filter * x.itemsize)
    if code is not None:
        most = min(most, max(_COLUMNS, _PRODUCT // (filters * per_filter)))
    rows = max(1, min(out[0], most // out[1]))
    geometry = (*W.shape[2:], *stride, *pad, *dilation)
    least = x.dtype.type(0.0 if rectify else -np.inf)
    tasks: list[thread_pool.Task] = []
    for n, k, part in itertools.product(range(len(x)), range(groups), cut(out[0], rows)):
        of, depth = slice(k * filters, (k + 1) * filters), W.shape[1]
        bias = np.zeros(filters, x.dtype) if b is None else np.ascontiguousarray(b[of])
        images, weights = x[n, k * depth : (k + 1) * depth], W[of].reshape(filters, per_filter)
        tasks.append(functools.partial(fill, images, weights, bias, least, y[n, of], geometry, part.start, part.stop))
    if y[0].size // len(W) * W.size < _SHARED_PRODUCTS:
        tasks = [functools.partial(_one_after_the_other, tasks)]
    thread_pool.run(tasks)
    return y


def _one_after_the_other(tasks: list[thread_pool.Task]) -> None:
    for task in tasks:
        task()


def _fill_compiled(fill: Any, image: Host, weights: Host, bias: Host, least: Any, out: Host, *where: Any) -> None:
    """As `_fill`, by the compiled one."""
    given = [a.view() for a in (image, weights, bias)]
    for a in given:
        # compiled once for arrays that may be written to and those that may not
        a.flags.writeable = False
    _, first, last = where
    needed = weights.shape[1] * (last - first) * out.shape[2]
    fill(*given, least, out, *where, scratch("windows of an image", (needed,), image.dtype))


def _fill(
    image: Host, weights: Host, bias: Host, least: Any, out: Host, geometry: tuple[int, ...], first: int, last: int
) -> None:
    """Rows `first` to `last` of `out` (F, OH, OW), from `image` (C, H, W) and `weights` (F, C * FH * FW)."""
    fh, fw, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w = geometry
    depth, height, width = image.shape
    filters, _, columns = out.shape
    count = last - first
    top, needed = first * stride_h - pad_h, (count - 1) * stride_h + (fh - 1) * dilation_h + 1
    if (fh, fw, stride_h, stride_w, pad_h, pad_w) == (1, 1, 1, 1, 0, 0):
        seen = image[:, first:last].reshape(depth, -1)
    else:
        bordered = scratch("bordered", (depth, needed, width + 2 * pad_w), image.dtype)
        start = min(needed, max(0, -top))
        inside = slice(start, max(start, min(needed, height - top)))
        bordered[:, : inside.start] = 0
        bordered[:, inside.stop :] = 0
        bordered[:, :, :pad_w] = 0
        bordered[:, :, pad_w + width :] = 0
        bordered[:, inside, pad_w : pad_w + width] = image[:, top + inside.start : top + inside.stop]
        plane, line, item = bordered.strides
        shape = (depth, fh, fw, count, columns)
        windows = as_strided(
            bordered, shape, (plane, dilation_h * line, dilation_w * item, stride_h * line, stride_w * item)
        )
        seen = scratch("windows of an image", shape, image.dtype)
        seen[...] = windows
        seen = seen.reshape(-1, count * columns)
    target = as_strided(out[:, first:last], (filters, count * columns), (out.strides[0], out.itemsize))
    np.matmul(weights, seen, out=target)
    target += bias[:, np.newaxis]
    if least == 0:
        np.maximum(target, 0.0, out=target)
