"""Max pooling, one tap of the window after the other, each a slice of the images; any memory order goes in and comes out.

The largest value of a window is the largest of those of its columns: forward takes FH taps, and then FW.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np

from xpdl.backends.arrays import NDArray, Pair
from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.image_layout import in_order_of
from xpdl.backends.cpu.partition import split
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.epilogues import is_relu
from xpdl.backends.geometry import is_plain, output_size
from xpdl.backends.numpy.elementwise import before_relu, bits, has_bits
from xpdl.backends.registry import DECLINE, kernel

# For each tap of a window along one axis: the outputs that have it inside the image, and where they see it.
Taps = list[tuple[slice, slice]]


@kernel("numpy", "max_pooling")
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
    relu = is_relu(activation)
    if not is_plain(x, pad) or x.dtype.kind != "f":
        return DECLINE
    out = output_size(x.shape, size, stride, pad, dilation)
    if min(out) < 1:
        return DECLINE
    y = in_order_of(x, out)
    by_rows, by_columns = (_taps(x, axis, out, size, stride, pad, dilation) for axis in (2, 3))

    def task(channels: slice) -> None:
        images = x[:, channels]
        rows = in_order_of(images, (out[0], x.shape[3]), "rows")
        _maximum(images, 2, by_rows, rows)
        _maximum(rows, 3, by_columns, y[:, channels])
        if relu:
            np.maximum(y[:, channels], 0.0, out=y[:, channels])

    _over_channels(task, x)
    return y


@kernel("numpy", "max_pooling_backward")
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
    relu = is_relu(activation)
    if not is_plain(x, pad) or not dy.dtype == x.dtype == y.dtype or not has_bits(x) or not y.size:
        return DECLINE
    out = output_size(x.shape, size, stride, pad, dilation)
    if relu:
        dy = before_relu(dy, y)
    dx = in_order_of(x, x.shape[2:])
    by_rows, by_columns = (_taps(x, axis, out, size, stride, pad, dilation) for axis in (2, 3))
    views = [
        ((..., rows[0], columns[0]), (..., rows[1], columns[1]))
        for rows, columns in itertools.product(by_rows, by_columns)
    ]
    overlapping = any(gap * (taps - 1) >= step for taps, step, gap in zip(size, stride, dilation, strict=True))
    covered = not overlapping and sum(dx[seen].size for _, seen in views) == dx.size

    def task(channels: slice) -> None:
        images, largest, into = x[:, channels], y[:, channels], dx[:, channels]
        if not covered:
            into[...] = 0
        # Of a tap; copying to and from there is quicker than functions on lines that are not contiguous.
        # Products and differences of the bits as ints are exact, also for infinities.
        left, tap, won = (in_order_of(images, out, name) for name in ("left", "tap", "won"))
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


def _maximum(x: NDArray, axis: int, taps: Taps, y: NDArray) -> None:
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


def _along(x: NDArray, axis: int, part: slice) -> NDArray:
    return x[:, :, part] if axis == 2 else x[:, :, :, part]


def _taps(x: NDArray, axis: int, out: Pair, size: Pair, stride: Pair, pad: Pair, dilation: Pair) -> Taps:
    """The taps along the axis 2 or 3 of `x`, in order; those that no output has inside are skipped."""
    length, count, step = x.shape[axis], out[axis - 2], stride[axis - 2]
    taps: Taps = []
    for tap in range(size[axis - 2]):
        offset = tap * dilation[axis - 2] - pad[axis - 2]
        first = max(0, -(offset // step))
        last = min(count, (length - 1 - offset) // step + 1)
        if first < last:
            taps.append((slice(first, last), slice(first * step + offset, (last - 1) * step + offset + 1, step)))
    return taps


def _over_channels(task: Callable[[slice], None], x: NDArray) -> None:
    """Run `task` on some channels at a time: windows of different channels share nothing."""
    channels = x.shape[1]
    parts = split(channels, max(1, min(channels, x.size // TUNING.pooling_task)))
    thread_pool.run([functools.partial(task, part) for part in parts])
