"""Convolution as tasks of an algorithm: memory order, groups, and the correlations that make its gradients.

Images are worked on in the order (H, C, W, N) of memory, images innermost; the results are views (N, C, H, W) of it. NumPy's
element-wise functions keep that order, so it goes from layer to layer and nothing is converted but the data at the entrance.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from xpdl.backends.arrays import NDArray, Pair
from xpdl.backends.cpu import buffer_pool, thread_pool
from xpdl.backends.cpu.choose_algorithm import (
    FILTER_GRADIENT,
    FORWARD,
    GRADIENTS,
    Algorithm,
    Case,
    choose_algorithm,
    loops_pay,
)
from xpdl.backends.cpu.correlation import WHOLE, Correlation
from xpdl.backends.geometry import output_size

# A gradient, and the arrays that it is the sum of.
Sum = tuple[NDArray, list[NDArray]]


class Implementations(NamedTuple):
    """The code of the algorithms that a set of kernels has.

    Attributes
    ----------
    compiled : bool
    of_images : function
        Forward image by image, with the arguments of `forward`.
    of_correlations : mapping
        The others, as functions that make the tasks of a `Correlation`.
    """

    compiled: bool
    of_images: Callable[..., NDArray]
    of_correlations: Mapping[Algorithm, Callable[[Correlation], list[thread_pool.Task]]]

    def tasks(self, passes: str, correlation: Correlation) -> list[thread_pool.Task]:
        """The tasks of the algorithm that suits a correlation."""
        _, channels, _, images = correlation.src.shape
        rows, filters, columns, _ = correlation.counted(correlation.out).shape
        case = Case(
            passes,
            self.compiled,
            images,
            channels,
            filters,
            correlation.size,
            correlation.stride,
            correlation.dilation,
            (rows, columns),
            correlation.src.dtype,
            all(x.flags.c_contiguous for x in correlation.arrays),
            correlation.out_slices != WHOLE,
        )
        return self.of_correlations[choose_algorithm(case)](correlation)


def forward(
    x: NDArray,
    W: NDArray,
    b: NDArray | None,
    stride: Pair,
    pad: Pair,
    dilation: Pair,
    groups: int,
    relu: bool,
    implementations: Implementations,
) -> NDArray:
    """The convolution of `x` (N, C, H, W), a view of memory in the order (H, C, W, N) or, image by image, contiguous."""
    size = W.shape[2], W.shape[3]
    out = output_size(x.shape, size, stride, pad, dilation)
    # filters of a subclass may become of another dtype on the way
    src, W = _source(x, implementations), np.asarray(W)
    parts = _groups(W, groups)
    # a group's part of the result, which is still to be made, is contiguous as long as there is one row
    contiguous = src[:, parts[0][1]].flags.c_contiguous and (groups == 1 or out[0] == 1)
    case = Case(
        FORWARD,
        implementations.compiled,
        len(x),
        W.shape[1],
        len(W) // groups,
        size,
        stride,
        dilation,
        out,
        x.dtype,
        contiguous,
    )
    compute = implementations.of_correlations.get(choose_algorithm(case))
    if compute is None:
        return implementations.of_images(x, W, b, stride, pad, dilation, groups, relu)
    y = buffer_pool.empty((out[0], len(W), out[1], len(x)), x.dtype)
    tasks: list[thread_pool.Task] = []
    for filters, channels in parts:
        weights, bias = W[filters].transpose(0, 2, 3, 1), None if b is None else b[filters]
        tasks += compute(Correlation(src[:, channels], weights, size, y[:, filters], stride, pad, dilation, bias, relu))
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
    needed: tuple[bool, bool, bool],
    implementations: Implementations,
) -> tuple[NDArray | None, NDArray | None, NDArray | None]:
    """The gradients of `x`, `W` and the bias, as far as they are needed; without that of `W`, `x` is not read."""
    need_dx, need_dW, need_db = needed
    src, dyt = _source(x, implementations) if need_dW else _inner(x), np.ascontiguousarray(_inner(dy))
    dx = buffer_pool.empty(src.shape, x.dtype) if need_dx else None
    dW = np.zeros((groups, len(W) // groups, *W.shape[1:]), x.dtype) if need_dW else None
    db_rows = np.empty((len(dyt), len(W)), x.dtype) if need_db else None
    tasks: list[thread_pool.Task] = [] if db_rows is None else [functools.partial(_sum_rows, dyt, db_rows)]
    sums: list[Sum] = []
    size = W.shape[2], W.shape[3]
    for group, (filters, channels) in enumerate(_groups(W, groups)):
        d, images = dyt[:, filters], src[:, channels]
        if dx is not None:
            into, dW_part = dx[:, channels], None if dW is None else dW[group]
            for correlation, part in _gradients(d, images, W[filters], into, dW_part, stride, pad, dilation):
                tasks += implementations.tasks(GRADIENTS, correlation)
                sums += part
        elif dW is not None:
            partials: list[NDArray] = []
            sums.append((dW[group].transpose(2, 3, 1, 0), partials))
            windows = Correlation(images, None, size, d, stride, pad, dilation, dw_operand=d, partials=partials)
            tasks += implementations.tasks(FILTER_GRADIENT, windows)
    thread_pool.run(tasks)
    for total, partials in sums:
        # in the order of the tasks, whichever thread ran them
        total[...] = functools.reduce(np.add, partials).reshape(total.shape)
    db = None if db_rows is None else db_rows.sum(axis=0)
    return (None if dx is None else _outer(dx)), (None if dW is None else dW.reshape(W.shape)), db


def _source(x: NDArray, implementations: Implementations) -> NDArray:
    """(N, C, H, W) as (H, C, W, N), contiguous if compiled loops read it, which do so more than once."""
    src = _inner(x)
    return np.ascontiguousarray(src) if implementations.compiled and loops_pay(len(x)) else src


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
    dyt: NDArray, src: NDArray, W: NDArray, dx: NDArray, dW: NDArray | None, stride: Pair, pad: Pair, dilation: Pair
) -> Iterator[tuple[Correlation, list[Sum]]]:
    """The correlations that fill `dx` (H, C, W, N), each with the part of `dW`, where that is given, that it sums up.

    With stride s and dilation d, the inputs at a, a + s, a + 2 s... see every ``s / gcd(s, d)``-th tap alone: their
    gradient is a correlation, with stride 1, of `dy` with those taps, turned round. The gradients of those taps are products
    of those inputs with the same windows of `dy`.
    """
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
        partials: list[NDArray] | None = None if dW is None else []
        correlation = Correlation(
            dyt,
            weights,
            (weights.shape[1], weights.shape[2]),
            dx,
            (1, 1),
            (reach_h, reach_w),
            (step_h, step_w),
            dw_operand=None if dW is None else src,
            partials=partials,
            out_slices=out_slices,
        )
        if dW is None or partials is None:
            yield correlation, []
        else:
            yield correlation, [(dW[:, :, rows, columns][:, :, ::-1, ::-1].transpose(2, 3, 0, 1), partials)]


def _taps_seen(first: int, size: int, stride: int, pad: int, dilation: int) -> tuple[slice, int, int]:
    """Along one axis, the taps that the inputs `first`, `first` + `stride`... see; pad and dilation of their gradient."""
    common = math.gcd(stride, dilation)
    step, spread = stride // common, dilation // common
    tap = next((u for u in range(min(step, size)) if (first + pad - u * dilation) % stride == 0), size)
    last = len(range(tap, size, step)) - 1
    return slice(tap, None, step), last * spread - (first + pad - tap * dilation) // stride, spread
