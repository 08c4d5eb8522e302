"""Max pooling, one tap of the window after the other, each a slice of the images; any memory order goes in and comes out.

The largest value of a window is the largest of those of its columns: forward takes FH taps, and then FW.

Compiled code does it in one pass over memory: 100 images of 16 x 28 x 28, innermost in memory, on two cores of a Xeon in
300 instead of 480 us, and backward in 460 instead of 1270 us. The mean has compiled kernels alone: on one core
440 instead of 510 us, and 370 us instead of 12 ms backward.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xpdl.backends.cpu import buffer_pool, thread_pool
from xpdl.backends.cpu.contiguous import FLOATS
from xpdl.backends.cpu.workspace import scratch
from xpdl.backends.epilogues import is_relu
from xpdl.backends.numba import loading
from xpdl.backends.numpy.elementwise import before_relu, bits
from xpdl.backends.registry import DECLINE, kernel

Host = np.ndarray[Any, Any]
Pair = tuple[int, int]
# For each tap of a window along one axis: the outputs that have it inside the image, and where they see it.
Taps = list[tuple[slice, slice]]

# Elements of a task's images: with fewer, threads wait for each other longer than they work.
_TASK_SIZE = 1 << 19
_COMPILED_TASK_SIZE = 1 << 18

# Compiled code works on neighbours in memory together. It is quicker than NumPy's functions with so many of them at least;
# for a maximum of so few values, with any number.
_NEIGHBOURS = 2
_NEIGHBOURS_BACKWARD = 24
_FEW = 1 << 14


@kernel("numpy", "max_pooling")
def max_pooling(x: Host, size: Pair, stride: Pair, pad: Pair = (0, 0), *, activation: str | None = None) -> Host:
    """As `xpdl.ops.pooling.max_pooling`."""
    relu = is_relu(activation)
    out = _out_size(x, size, stride, pad)
    if min(out) < 1 or x.dtype.kind != "f":
        return DECLINE
    found = _compiled("max_pooling", x, out, size, stride, pad, relu, few=_FEW)
    if found is not None:
        return found
    y = _in_order_of(x, out)
    by_rows, by_columns = (_taps(x, axis, out, size, stride, pad) for axis in (2, 3))

    def task(channels: slice) -> None:
        images = x[:, channels]
        rows = _in_order_of(images, (out[0], x.shape[3]), "rows")
        _maximum(images, 2, by_rows, rows)
        _maximum(rows, 3, by_columns, y[:, channels])
        if relu:
            np.maximum(y[:, channels], 0.0, out=y[:, channels])

    _over_channels(task, x)
    return y


@kernel("numpy", "max_pooling_backward")
def max_pooling_backward(
    dy: Host,
    x: Host,
    y: Host,
    size: Pair,
    stride: Pair,
    pad: Pair = (0, 0),
    taps: Host | None = None,
    *,
    activation: str | None = None,
) -> Host:
    """As `xpdl.ops.pooling.max_pooling_backward`."""
    relu = is_relu(activation)
    if not dy.dtype == x.dtype == y.dtype or x.dtype.kind != "f" or not y.size:
        return DECLINE
    out = _out_size(x, size, stride, pad)
    found = _compiled_backward("max_pooling_backward", (dy, x, y), (dy, y), x, out, size, stride, pad, relu)
    if found is not None:
        return found
    if relu:
        dy = before_relu(dy, y)
    dx = _in_order_of(x, x.shape[2:])
    by_rows, by_columns = (_taps(x, axis, out, size, stride, pad) for axis in (2, 3))
    views = [
        ((..., rows[0], columns[0]), (..., rows[1], columns[1]))
        for rows, columns in itertools.product(by_rows, by_columns)
    ]
    overlapping = size[0] > stride[0] or size[1] > stride[1]
    covered = not overlapping and sum(dx[seen].size for _, seen in views) == dx.size

    def task(channels: slice) -> None:
        images, largest, into = x[:, channels], y[:, channels], dx[:, channels]
        if not covered:
            into[...] = 0
        # Of a tap; copying to and from there is quicker than functions on lines with gaps between them.
        # Products and differences of the bits as ints are exact, also for infinities.
        left, tap, won = (_in_order_of(images, out, name) for name in ("left", "tap", "won"))
        left[...] = dy[:, channels]
        for inside, seen in views:
            tap[inside] = images[seen]
            np.multiply(bits(left[inside]), tap[inside] == largest[inside], out=bits(won[inside]))
            bits(left)[inside] -= bits(won[inside])
            if overlapping:
                into[seen] += won[inside]
            else:
                into[seen] = won[inside]

    _over_channels(task, x)
    return dx


@kernel("numpy", "average_pooling")
def average_pooling(x: Host, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> Host:
    """As `xpdl.ops.pooling.average_pooling`, where compiled code serves `x`."""
    found = _compiled("average_pooling", x, _out_size(x, size, stride, pad), size, stride, pad)
    return DECLINE if found is None else found


@kernel("numpy", "average_pooling_backward")
def average_pooling_backward(dy: Host, x: Host, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> Host:
    """As `xpdl.ops.pooling.average_pooling_backward`, where compiled code serves `x`."""
    out = _out_size(x, size, stride, pad)
    found = _compiled_backward("average_pooling_backward", (dy,), (dy,), x, out, size, stride, pad)
    return DECLINE if found is None else found


def _maximum(x: Host, axis: int, taps: Taps, y: Host) -> None:
    """The largest value of the windows of `x` along one axis."""
    views = [(_along(y, axis, inside), _along(x, axis, seen)) for inside, seen in taps]
    whole = [seen for inside, seen in views if inside.shape == y.shape]
    if len(whole) > 1:
        np.maximum(whole[0], whole[1], out=y)
    elif whole:
        y[...] = whole[0]
    else:
        y[...] = -np.inf
    for inside, seen in views:
        if not any(seen is done for done in whole[:2]):
            np.maximum(inside, seen, out=inside)


def _along(x: Host, axis: int, part: slice) -> Host:
    return x[:, :, part] if axis == 2 else x[:, :, :, part]


def _out_size(x: Host, size: Pair, stride: Pair, pad: Pair) -> Pair:
    height, width = ((x.shape[i + 2] + 2 * pad[i] - size[i]) // stride[i] + 1 for i in (0, 1))
    return height, width


def _in_order_of(x: Host, size: Pair, name: str | None = None) -> Host:
    """(N, C, *size) with the axes in the order that `x` has them in memory; scratch memory of that `name`, or fresh."""
    shape, order = (*x.shape[:2], *size), _order(x.shape, x.strides)
    sizes = tuple(shape[axis] for axis in order.axes)
    in_memory = buffer_pool.empty(sizes, x.dtype) if name is None else scratch(name, sizes, x.dtype)
    return in_memory.transpose(order.back)


class _Order(NamedTuple):
    """How the axes of images follow each other in memory, and how many values lie outside of, between and inside H and W."""

    axes: tuple[int, ...]
    back: tuple[int, ...]
    outer: int
    middle: int
    inner: int


@functools.lru_cache(maxsize=1024)
def _order(shape: tuple[int, ...], strides: tuple[int, ...]) -> _Order:
    axes = tuple(sorted(range(4), key=lambda axis: -abs(strides[axis])))
    h, w = axes.index(2), axes.index(3)
    places = (0, min(h, w)), (min(h, w) + 1, max(h, w)), (max(h, w) + 1, 4)
    counts = (math.prod(shape[axis] for axis in axes[first:end]) for first, end in places)
    return _Order(axes, tuple(sorted(range(4), key=axes.__getitem__)), *counts)


def _taps(x: Host, axis: int, out: Pair, size: Pair, stride: Pair, pad: Pair) -> Taps:
    """The taps along the axis 2 or 3 of `x`, in order; those that no output has inside are left out."""
    length, count, step = x.shape[axis], out[axis - 2], stride[axis - 2]
    taps: Taps = []
    for tap in range(size[axis - 2]):
        offset = tap - pad[axis - 2]
        first = max(0, -(offset // step))
        last = min(count, (length - 1 - offset) // step + 1)
        if first < last:
            taps.append((slice(first, last), slice(first * step + offset, (last - 1) * step + offset + 1, step)))
    return taps


def _over_channels(task: Callable[[slice], None], x: Host) -> None:
    """Run `task` on some channels at a time: windows of different channels share nothing."""
    channels = x.shape[1]
    count = max(1, min(channels, x.size // _TASK_SIZE))
    edges = [channels * k // count for k in range(count + 1)]
    thread_pool.run([functools.partial(task, slice(*edges[k : k + 2])) for k in range(count)])


def _compiled(name: str, x: Host, out: Pair, *geometry: Any, few: int = 0) -> Host | None:
    """The result of a compiled function, where there is one and it serves `x`: also without neighbours up to a `few`."""
    code, order = loading.load("xpdl.backends.numba.pooling"), _order(x.shape, x.strides)
    if code is None or min(out) < 1 or not _takes_lines(x, order, 0 if x.size <= few else _NEIGHBOURS):
        return None
    y = _in_order_of(x, out)
    call, given, into = getattr(code, name), _lines(x, order), _lines(y, order, writeable=True)
    _over_lines(lambda part: call(given, into, *geometry, order.inner, part), given)
    return y


def _compiled_backward(
    name: str, arrays: tuple[Host, ...], outputs: tuple[Host, ...], x: Host, out: Pair, *geometry: Any
) -> Host | None:
    """The same for a backward pass from `arrays`, of which the `outputs` have the shape of the result of forward."""
    code, order = loading.load("xpdl.backends.numba.pooling"), _order(x.shape, x.strides)
    # compiled code does not look whether it reads inside
    fit = all(array.shape == (*x.shape[:2], *out) and array.dtype == x.dtype for array in outputs)
    if code is None or min(out) < 1 or not fit or not _takes_lines(x, order, _NEIGHBOURS_BACKWARD):
        return None
    dx = _in_order_of(x, x.shape[2:])
    call, given, into = (
        getattr(code, name),
        [_lines(array, order) for array in arrays],
        _lines(dx, order, writeable=True),
    )
    _over_lines(lambda part: call(*given, into, *geometry, order.inner, part), into)
    return dx


def _takes_lines(x: Host, order: _Order, neighbours: int) -> bool:
    """Whether compiled code serves images in this order, rows before columns, and so many neighbours at least."""
    gapless = x.transpose(order.axes).flags.c_contiguous and order.back[2] < order.back[3]
    return gapless and x.dtype in FLOATS and x.size > 0 and order.inner >= neighbours


def _lines(x: Host, order: _Order, *, writeable: bool = False) -> Host:
    """The memory (outer, H, middle, W * inner) of `x`; of a copy, if it does not have its axes in that order."""
    in_memory = np.ascontiguousarray(x.transpose(order.axes))
    lines = in_memory.reshape(order.outer, x.shape[2], order.middle, x.shape[3] * order.inner)
    # compiled once for arrays that may be written to and those that may not
    lines.flags.writeable = writeable
    return lines


def _over_lines(task: Callable[[tuple[int, int, int, int]], None], lines: Host) -> None:
    """Run `task` on the outer ones from and to, and the middle ones from and to: windows of others share nothing."""
    outer, _, middle, _ = lines.shape
    length = max(outer, middle)
    count = max(1, min(length, lines.size // _COMPILED_TASK_SIZE))
    edges = itertools.pairwise(length * k // count for k in range(count + 1))
    parts = [(*edge, 0, middle) if outer == length else (0, outer, *edge) for edge in edges]
    if count == 1:
        task(parts[0])
    else:
        thread_pool.run([functools.partial(task, part) for part in parts])
