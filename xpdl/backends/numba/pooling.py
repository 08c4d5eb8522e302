"""Pooling in one pass over the images, whatever lies between their rows and columns in memory.

100 images of 16 x 28 x 28, innermost in memory, take 300 us instead of 480 with NumPy's functions on two cores of a Xeon,
and backward 460 instead of 1270. The mean takes 440 us instead of the 510 of the generic op on one core, and 370 us instead
of 12 ms backward.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from xpdl.backends.arrays import NDArray, Pads, Pair
from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.contiguous import FLOATS
from xpdl.backends.cpu.image_layout import Order, in_order_of, order_of
from xpdl.backends.cpu.partition import split
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.epilogues import is_relu
from xpdl.backends.geometry import is_plain, output_size
from xpdl.backends.numba import pooling_loops
from xpdl.backends.registry import DECLINE, kernel

_ONE = (1, 1)


@kernel("numba", "max_pooling")
def max_pooling(
    x: NDArray,
    size: Pair,
    stride: Pair,
    pad: Pair = (0, 0),
    *,
    dilation: Pair = (1, 1),
    activation: str | None = None,
) -> NDArray:
    """As `xpdl.ops.pooling.max_pooling`."""
    if dilation != _ONE:
        return DECLINE
    neighbours = 0 if x.size <= TUNING.compiled_pooling_few else TUNING.compiled_pooling_neighbours
    return _forward(pooling_loops.max_pooling, x, neighbours, size, stride, pad, is_relu(activation))


@kernel("numba", "max_pooling_backward")
def max_pooling_backward(
    dy: NDArray,
    x: NDArray,
    y: NDArray,
    size: Pair,
    stride: Pair,
    pad: Pair = (0, 0),
    taps: NDArray | None = None,
    *,
    dilation: Pair = (1, 1),
    activation: str | None = None,
) -> NDArray:
    """As `xpdl.ops.pooling.max_pooling_backward`."""
    if dilation != _ONE:
        return DECLINE
    return _backward(pooling_loops.max_pooling_backward, (dy, x, y), (dy, y), x, size, stride, pad, is_relu(activation))


@kernel("numba", "average_pooling")
def average_pooling(
    x: NDArray,
    size: Pair,
    stride: Pair,
    pad: Pair = (0, 0),
    *,
    dilation: Pair = (1, 1),
    counted_pad: Pads | None = None,
) -> NDArray:
    """As `xpdl.ops.pooling.average_pooling`."""
    if dilation != _ONE or counted_pad is not None:
        return DECLINE
    return _forward(pooling_loops.average_pooling, x, TUNING.compiled_pooling_neighbours, size, stride, pad)


@kernel("numba", "average_pooling_backward")
def average_pooling_backward(
    dy: NDArray,
    x: NDArray,
    size: Pair,
    stride: Pair,
    pad: Pair = (0, 0),
    *,
    dilation: Pair = (1, 1),
    counted_pad: Pads | None = None,
) -> NDArray:
    """As `xpdl.ops.pooling.average_pooling_backward`."""
    if dilation != _ONE or counted_pad is not None:
        return DECLINE
    return _backward(pooling_loops.average_pooling_backward, (dy,), (dy,), x, size, stride, pad)


def _forward(
    loop: Callable[..., None], x: NDArray, neighbours: int, size: Pair, stride: Pair, pad: Pair, *options: bool
) -> NDArray:
    if not is_plain(x, pad):
        return DECLINE
    out, order = output_size(x.shape, size, stride, pad), order_of(x.shape, x.strides)
    if min(out) < 1 or not _supports(x, order, neighbours):
        return DECLINE
    y = in_order_of(x, out)
    images, into = _lines(x, order), _lines(y, order, writeable=True)
    _over_lines(lambda part: loop(images, into, size, stride, pad, *options, order.inner, part), images)
    return y


def _backward(
    loop: Callable[..., None],
    arrays: tuple[NDArray, ...],
    outputs: tuple[NDArray, ...],
    x: NDArray,
    size: Pair,
    stride: Pair,
    pad: Pair,
    *options: bool,
) -> NDArray:
    """The gradient from `arrays`, of which the `outputs` have the shape of the result of forward."""
    if not is_plain(x, pad):
        return DECLINE
    out, order = output_size(x.shape, size, stride, pad), order_of(x.shape, x.strides)
    # compiled code does not check that it reads inside
    fit = all(array.shape == (*x.shape[:2], *out) and array.dtype == x.dtype for array in outputs)
    if min(out) < 1 or not fit or not _supports(x, order, TUNING.compiled_pooling_neighbours_backward):
        return DECLINE
    dx = in_order_of(x, x.shape[2:])
    lines, into = [_lines(array, order) for array in arrays], _lines(dx, order, writeable=True)
    _over_lines(lambda part: loop(*lines, into, size, stride, pad, *options, order.inner, part), into)
    return dx


def _supports(x: NDArray, order: Order, neighbours: int) -> bool:
    """Tell whether images are contiguous, with rows before columns and so many neighbours at least."""
    contiguous = x.transpose(order.axes).flags.c_contiguous and order.back[2] < order.back[3]
    return contiguous and x.dtype in FLOATS and x.size > 0 and order.inner >= neighbours


def _lines(x: NDArray, order: Order, *, writeable: bool = False) -> NDArray:
    """The memory (outer, H, middle, W * inner) of `x`; of a copy, if it does not have its axes in that order."""
    in_memory = np.ascontiguousarray(x.transpose(order.axes))
    lines = in_memory.reshape(order.outer, x.shape[2], order.middle, x.shape[3] * order.inner)
    # compiled once for arrays that may be written to and those that may not
    lines.flags.writeable = writeable
    return lines


def _over_lines(task: Callable[[tuple[int, int, int, int]], None], lines: NDArray) -> None:
    """Run `task` on parts of the outer ones, or of the middle ones if these are more: their windows share nothing."""
    outer, _, middle, _ = lines.shape
    length = max(outer, middle)
    edges = split(length, max(1, min(length, lines.size // TUNING.compiled_pooling_task)))
    parts = [
        (part.start, part.stop, 0, middle) if outer == length else (0, outer, part.start, part.stop) for part in edges
    ]
    if len(parts) == 1:
        task(parts[0])
    else:
        thread_pool.run([functools.partial(task, part) for part in parts])
