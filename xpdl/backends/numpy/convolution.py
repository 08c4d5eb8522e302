"""Convolution as stacks of matrix products, one per row of the output.

Images are worked on in the order (H, C, W, N) of memory, images innermost; the results are views (N, C, H, W) of it.
NumPy's element-wise functions keep that order, so it goes from layer to layer and nothing is converted but the data at the
entrance. In this order the windows of a filter over one row of the output are rows of a matrix that lie one after the other:
only the shifts along W are copied, FW times instead of FH * FW times, and the matrices of neighbouring output rows overlap
in memory. A task takes some rows of some columns, so that what it copies stays in the cache of a core. `correlation`
has the ways of doing that.

Measured on two cores of a Xeon with AVX-512: a step of DeepConvNet, batch 100, takes 343 ms with the generic ops, 46 ms
with NumPy's functions as here, and 32 ms where they are compiled.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np

from xpdl.backends.cpu import buffer_pool, thread_pool
from xpdl.backends.cpu.contiguous import FLOATS
from xpdl.backends.epilogues import is_relu, relu_output
from xpdl.backends.numba import loading
from xpdl.backends.numpy import im2col_small_batch
from xpdl.backends.numpy.conv_algorithms import Sum, correlation, weight_gradient
from xpdl.backends.numpy.elementwise import before_relu
from xpdl.backends.numpy.float16 import in_float32
from xpdl.backends.registry import DECLINE, kernel

Host = np.ndarray[Any, Any]
Pair = tuple[int, int]


@kernel("numpy", "convolution")
@in_float32
def convolution(
    x: Host,
    W: Host,
    b: Host | None = None,
    *,
    stride: Pair = (1, 1),
    pad: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    activation: str | None = None,
) -> Host:
    """As `xpdl.ops.convolution.convolution`; the result is a view of memory in the order (H, C, W, N).

    A task applies the relu to its part of the result while that is in the cache.
    """
    rectify = is_relu(activation)
    if x.dtype not in FLOATS or not x.dtype == W.dtype == (x if b is None else b).dtype or not x.size:
        return DECLINE
    out = [(x.shape[i + 2] + 2 * pad[i] - dilation[i] * (W.shape[i + 2] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
    if min(out) < 1 or x.shape[1] != W.shape[1] * groups:  # the generic op says what does not fit
        return DECLINE
    if im2col_small_batch.serves(x):
        return im2col_small_batch.convolution(x, W, b, (out[0], out[1]), stride, pad, dilation, groups, rectify=rectify)
    y = buffer_pool.empty((out[0], len(W), out[1], len(x)), x.dtype)
    # filters of a subclass may become of another dtype on the way
    src, W = _entering(x), np.asarray(W)
    tasks: list[thread_pool.Task] = []
    for filters, channels in _groups(W, groups):
        bias = None if b is None else b[filters]
        weights = W[filters].transpose(0, 2, 3, 1)
        tasks += correlation(src[:, channels], weights, y[:, filters], stride, pad, dilation, bias, rectify=rectify)
    thread_pool.run(tasks)
    return _outer(y)


@kernel("numpy", "convolution_backward")
@in_float32
def convolution_backward(
    dy: Host,
    x: Host,
    W: Host,
    *,
    stride: Pair = (1, 1),
    pad: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    y: Host | None = None,
    activation: str | None = None,
    need_dx: bool = True,
    need_db: bool = True,
) -> tuple[Host | None, Host, Host | None]:
    """As `xpdl.ops.convolution.convolution_backward`."""
    y = relu_output(activation, y)
    if x.dtype not in FLOATS or not dy.dtype == x.dtype == W.dtype or not x.size:
        return DECLINE
    dy = before_relu(dy, y)
    src, dyt = _entering(x), np.ascontiguousarray(_inner(dy))
    dx = buffer_pool.empty(src.shape, x.dtype) if need_dx else None
    dW = np.zeros((groups, len(W) // groups, *W.shape[1:]), x.dtype)
    db_rows = np.empty((len(dyt), len(W)), x.dtype) if need_db else None
    tasks: list[thread_pool.Task] = [] if db_rows is None else [functools.partial(_sum_rows, dyt, db_rows)]
    sums: list[Sum] = []
    for group, (filters, channels) in enumerate(_groups(W, groups)):
        d, images = dyt[:, filters], src[:, channels]
        if dx is None:
            tasks += weight_gradient(d, images, dW[group], stride, pad, dilation, sums)
        else:
            tasks += _gradients(d, images, W[filters], dx[:, channels], dW[group], stride, pad, dilation, sums)
    thread_pool.run(tasks)
    for total, parts in sums:
        # in the order of the tasks, whoever did them
        total[...] = functools.reduce(np.add, parts).reshape(total.shape)
    db = None if db_rows is None else db_rows.sum(axis=0)
    return (None if dx is None else _outer(dx)), dW.reshape(W.shape), db


def _sum_rows(dyt: Host, out: Host) -> None:
    """The sums over columns and images of `dyt` (H, C, W, N) as `out` (H, C); a product is the quickest sum."""
    rows = dyt.reshape(*out.shape, -1)
    np.matmul(rows, np.ones(rows.shape[2], rows.dtype), out=out)


def _groups(W: Host, groups: int) -> list[tuple[slice, slice]]:
    """The filters and the channels of each group."""
    filters, depth = len(W) // groups, W.shape[1]
    return [(slice(k * filters, (k + 1) * filters), slice(k * depth, (k + 1) * depth)) for k in range(groups)]


def _inner(x: Host) -> Host:
    """(N, C, H, W) as a view (H, C, W, N)."""
    return x.transpose(2, 1, 3, 0)


def _entering(x: Host) -> Host:
    """As `_inner`; in that order of memory if compiled kernels read it, which do so more than once."""
    inner, by_rows = _inner(x), loading.load("xpdl.backends.numba.convolution")
    return np.ascontiguousarray(inner) if by_rows and by_rows.has_enough_images(inner) else inner


def _outer(x: Host) -> Host:
    """(H, C, W, N) as a view (N, C, H, W)."""
    return x.transpose(3, 1, 0, 2)


def _gradients(
    dyt: Host,
    src: Host,
    W: Host,
    dx: Host,
    dW: Host,
    stride: Pair,
    pad: Pair,
    dilation: Pair,
    sums: list[Sum],
) -> list[thread_pool.Task]:
    """Tasks that fill `dx` (H, C, W, N), and what is to be summed for `dW`.

    With stride s and dilation d, the inputs at places a, a + s, a + 2 s... see every ``s / gcd(s, d)``-th tap alone: their
    gradient is a correlation, with stride 1, of `dy` with those taps, turned round. The gradients of those taps are products
    of those inputs with the same windows of `dy`.
    """
    tasks: list[thread_pool.Task] = []
    for phase in itertools.product(range(stride[0]), range(stride[1])):
        places = slice(phase[0], None, stride[0]), slice(phase[1], None, stride[1])
        axes = zip(phase, W.shape[2:], stride, pad, dilation, strict=True)
        (rows, reach_h, step_h), (columns, reach_w, step_w) = (_taps_seen(*axis) for axis in axes)
        taps, into = W[:, :, rows, columns], dx[places[0], :, places[1]]
        if not into.size:
            continue
        if not taps.size:
            into[...] = 0
            continue
        weights = np.ascontiguousarray(taps[:, :, ::-1, ::-1].transpose(1, 2, 3, 0))
        parts: list[Host] = []
        reach, step = (reach_h, reach_w), (step_h, step_w)
        tasks += correlation(dyt, weights, dx, (1, 1), reach, step, inputs=src, parts=parts, places=places)
        sums.append((dW[:, :, rows, columns][:, :, ::-1, ::-1].transpose(2, 3, 0, 1), parts))
    return tasks


def _taps_seen(first: int, size: int, stride: int, pad: int, dilation: int) -> tuple[slice, int, int]:
    """Along one axis, the taps that the inputs `first`, `first` + `stride`... see; pad and dilation of their gradient."""
    common = math.gcd(stride, dilation)
    step, spread = stride // common, dilation // common
    tap = next((u for u in range(min(step, size)) if (first + pad - u * dilation) % stride == 0), size)
    last = len(range(tap, size, step)) - 1
    return slice(tap, None, step), last * spread - (first + pad - tap * dilation) // stride, spread
