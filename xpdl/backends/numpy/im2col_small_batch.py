"""Convolution of few images, each by itself: windows are copied as a matrix, and one product makes all channels of a result.

With images innermost, lines of one or two floats would be copied. Here lines go along W, as images lie when they come one by
one: in the order (N, C, H, W), in which the result is made, too.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from xpdl.backends.arrays import NDArray, Pair
from xpdl.backends.cpu import buffer_pool, thread_pool
from xpdl.backends.cpu.partition import cut
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.cpu.workspace import scratch
from xpdl.backends.geometry import output_size
from xpdl.backends.numpy.gemm import unpacked_columns


def convolution(
    x: NDArray,
    W: NDArray,
    b: NDArray | None,
    stride: Pair,
    pad: Pair,
    dilation: Pair,
    groups: int,
    relu: bool,
    compiled_fill: Callable[..., None] | None = None,
) -> NDArray:
    """The convolution of `x` (N, C, H, W), in that order of memory, by `_fill` or compiled code, some rows at a time."""
    x, W = np.ascontiguousarray(x), np.ascontiguousarray(W)
    out = output_size(x.shape, (W.shape[2], W.shape[3]), stride, pad, dilation)
    y = buffer_pool.empty((len(x), len(W), *out), x.dtype)
    filters, per_filter = len(W) // groups, W[0].size
    most_columns = TUNING.small_batch_task_bytes // (per_filter * x.itemsize)
    if compiled_fill is not None:
        most_columns = min(most_columns, max(TUNING.small_batch_columns, unpacked_columns(filters, per_filter)))
    rows = max(1, min(out[0], most_columns // out[1]))
    geometry = (*W.shape[2:], *stride, *pad, *dilation)
    lower = x.dtype.type(0.0 if relu else -np.inf)
    tasks: list[thread_pool.Task] = []
    for n, k, part in itertools.product(range(len(x)), range(groups), cut(out[0], rows)):
        of, depth = slice(k * filters, (k + 1) * filters), W.shape[1]
        bias = np.zeros(filters, x.dtype) if b is None else np.ascontiguousarray(b[of])
        images, weights = x[n, k * depth : (k + 1) * depth], W[of].reshape(filters, per_filter)
        given = images, weights, bias, lower, y[n, of], geometry, part.start, part.stop
        tasks.append(functools.partial(compiled_fill or _fill, *given))
    if y[0].size // len(W) * W.size < TUNING.small_batch_shared_products:
        tasks = [functools.partial(_one_after_the_other, tasks)]
    thread_pool.run(tasks)
    return y


def _one_after_the_other(tasks: list[thread_pool.Task]) -> None:
    for task in tasks:
        task()


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
    if lower == 0:
        np.maximum(target, 0.0, out=target)
