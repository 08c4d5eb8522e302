"""Convolution as tasks of an algorithm: memory order, groups, and the correlations that make its gradients.

Images are worked on in the order (H, C, W, N) of memory, images innermost; the results are views (N, C, H, W) of it. NumPy's
element-wise functions keep that order, so it goes from layer to layer and nothing is converted but the data at the entrance.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Protocol

import numpy as np

from xpdl.backends.arrays import NDArray, Pair
from xpdl.backends.cpu import buffer_pool, thread_pool
from xpdl.backends.geometry import output_size

# A gradient, and the arrays that it is the sum of.
Sum = tuple[NDArray, list[NDArray]]
# Rows and columns of an array, as slices with a start and a step.
Slices = tuple[slice, slice]
WHOLE: Slices = slice(0, None, 1), slice(0, None, 1)


class Algorithms(Protocol):
    """The module that makes the tasks: `xpdl.backends.numpy.conv_algorithms` or `xpdl.backends.numba.conv_algorithms`."""

    def as_source(self, inner: NDArray) -> NDArray:
        """Images (H, C, W, N) in the order of memory in which they are read."""

    def correlation(
        self,
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
        """Tasks that fill the rows and columns `out_slices` of `out`, which alone count in what follows.

        ``out[i, f, j, n] = b[f] + sum over u, v, c of weights[f, u, v, c] src[i sh + u dh - ph, c, j sw + v dw - pw, n]``,
        where `src` is 0 outside its range; `pad` may be negative, and `out` may have more than there are windows. With
        `relu`, negative values become 0.

        With `dw_operand`, of which the same slices count, the tasks also put into `partials`, one entry each, what is to be
        summed for ``sum over i, j, n of src[i sh + u dh - ph, c, j sw + v dw - pw, n] dw_operand[i, f, j, n]``, an array
        (FH * FW * C, F).
        """

    def weight_gradient(
        self, dyt: NDArray, src: NDArray, dW: NDArray, stride: Pair, pad: Pair, dilation: Pair, sums: list[Sum]
    ) -> list[thread_pool.Task]:
        """Tasks for the partial sums of `dW` (FN, C, FH, FW), where nobody asks for `dx`."""


def forward(
    x: NDArray,
    W: NDArray,
    b: NDArray | None,
    stride: Pair,
    pad: Pair,
    dilation: Pair,
    groups: int,
    relu: bool,
    algorithms: Algorithms,
) -> NDArray:
    """The convolution of `x` (N, C, H, W), a view of memory in the order (H, C, W, N)."""
    out = output_size(x.shape, (W.shape[2], W.shape[3]), stride, pad, dilation)
    y = buffer_pool.empty((out[0], len(W), out[1], len(x)), x.dtype)
    # filters of a subclass may become of another dtype on the way
    src, W = algorithms.as_source(_inner(x)), np.asarray(W)
    tasks: list[thread_pool.Task] = []
    for filters, channels in _groups(W, groups):
        bias = None if b is None else b[filters]
        weights = W[filters].transpose(0, 2, 3, 1)
        tasks += algorithms.correlation(
            src[:, channels], weights, y[:, filters], stride, pad, dilation, bias, relu=relu
        )
    thread_pool.run(tasks)
    return _outer(y)


def backward(
    dy: NDArray,
    x: NDArray,
    W: NDArray,
    stride: Pair,
    pad: Pair,
    dilation: Pair,
    groups: int,
    need_dx: bool,
    need_db: bool,
    algorithms: Algorithms,
) -> tuple[NDArray | None, NDArray, NDArray | None]:
    """The gradients of `x`, `W` and the bias."""
    src, dyt = algorithms.as_source(_inner(x)), np.ascontiguousarray(_inner(dy))
    dx = buffer_pool.empty(src.shape, x.dtype) if need_dx else None
    dW = np.zeros((groups, len(W) // groups, *W.shape[1:]), x.dtype)
    db_rows = np.empty((len(dyt), len(W)), x.dtype) if need_db else None
    tasks: list[thread_pool.Task] = [] if db_rows is None else [functools.partial(_sum_rows, dyt, db_rows)]
    sums: list[Sum] = []
    for group, (filters, channels) in enumerate(_groups(W, groups)):
        d, images = dyt[:, filters], src[:, channels]
        if dx is None:
            tasks += algorithms.weight_gradient(d, images, dW[group], stride, pad, dilation, sums)
        else:
            into = dx[:, channels]
            tasks += _gradients(d, images, W[filters], into, dW[group], stride, pad, dilation, sums, algorithms)
    thread_pool.run(tasks)
    for total, partials in sums:
        # in the order of the tasks, whichever thread ran them
        total[...] = functools.reduce(np.add, partials).reshape(total.shape)
    db = None if db_rows is None else db_rows.sum(axis=0)
    return (None if dx is None else _outer(dx)), dW.reshape(W.shape), db


def _sum_rows(dyt: NDArray, out: NDArray) -> None:
    """The sums over columns and images of `dyt` (H, C, W, N) as `out` (H, C); a product is the quickest sum."""
    rows = dyt.reshape(*out.shape, -1)
    np.matmul(rows, np.ones(rows.shape[2], rows.dtype), out=out)


def _groups(W: NDArray, groups: int) -> list[tuple[slice, slice]]:
    """The filters and the channels of each group."""
    filters, depth = len(W) // groups, W.shape[1]
    return [(slice(k * filters, (k + 1) * filters), slice(k * depth, (k + 1) * depth)) for k in range(groups)]


def _inner(x: NDArray) -> NDArray:
    """(N, C, H, W) as a view (H, C, W, N)."""
    return x.transpose(2, 1, 3, 0)


def _outer(x: NDArray) -> NDArray:
    """(H, C, W, N) as a view (N, C, H, W)."""
    return x.transpose(3, 1, 0, 2)


def _gradients(
    dyt: NDArray,
    src: NDArray,
    W: NDArray,
    dx: NDArray,
    dW: NDArray,
    stride: Pair,
    pad: Pair,
    dilation: Pair,
    sums: list[Sum],
    algorithms: Algorithms,
) -> list[thread_pool.Task]:
    """Tasks that fill `dx` (H, C, W, N), and append the partial sums of `dW` to `sums`.

    With stride s and dilation d, the inputs at a, a + s, a + 2 s... see every ``s / gcd(s, d)``-th tap alone: their
    gradient is a correlation, with stride 1, of `dy` with those taps, turned round. The gradients of those taps are products
    of those inputs with the same windows of `dy`.
    """
    tasks: list[thread_pool.Task] = []
    for phase in itertools.product(range(stride[0]), range(stride[1])):
        out_slices = slice(phase[0], None, stride[0]), slice(phase[1], None, stride[1])
        axes = zip(phase, W.shape[2:], stride, pad, dilation, strict=True)
        (rows, reach_h, step_h), (columns, reach_w, step_w) = (_taps_seen(*axis) for axis in axes)
        taps, into = W[:, :, rows, columns], dx[out_slices[0], :, out_slices[1]]
        if not into.size:
            continue
        if not taps.size:
            into[...] = 0
            continue
        weights = np.ascontiguousarray(taps[:, :, ::-1, ::-1].transpose(1, 2, 3, 0))
        partials: list[NDArray] = []
        reach, step = (reach_h, reach_w), (step_h, step_w)
        tasks += algorithms.correlation(
            dyt, weights, dx, (1, 1), reach, step, dw_operand=src, partials=partials, out_slices=out_slices
        )
        sums.append((dW[:, :, rows, columns][:, :, ::-1, ::-1].transpose(2, 3, 0, 1), partials))
    return tasks


def _taps_seen(first: int, size: int, stride: int, pad: int, dilation: int) -> tuple[slice, int, int]:
    """Along one axis, the taps that the inputs `first`, `first` + `stride`... see; pad and dilation of their gradient."""
    common = math.gcd(stride, dilation)
    step, spread = stride // common, dilation // common
    tap = next((u for u in range(min(step, size)) if (first + pad - u * dilation) % stride == 0), size)
    last = len(range(tap, size, step)) - 1
    return slice(tap, None, step), last * spread - (first + pad - tap * dilation) // stride, spread
