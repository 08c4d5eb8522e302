"""Max pooling, one tap of the window after the other, each a slice of the images; any memory order goes in and comes out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xpdl.backends.dispatch import DECLINE, kernel
from xpdl.backends.numpy import threads
from xpdl.backends.numpy.elementwise import bits

Host = np.ndarray[Any, Any]
Pair = tuple[int, int]

# Elements of a task's output: with fewer, threads wait for each other longer than they work.
_TASK_SIZE = 1 << 15


@kernel("numpy", "max_pooling")
def max_pooling(x: Host, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> Host:
    """As `xpdl.ops.pooling.max_pooling`."""
    out = _out_size(x, size, stride, pad)
    if min(out) < 1 or x.dtype.kind != "f":
        return DECLINE  # type: ignore[no-any-return]
    y = _empty_in_order_of(x, out)

    def task(channels: slice) -> None:
        images, largest = x[:, channels], y[:, channels]
        if pad == (0, 0):
            largest[...] = images[
                :, :, : (out[0] - 1) * stride[0] + 1 : stride[0], : (out[1] - 1) * stride[1] + 1 : stride[1]
            ]
        else:
            largest[...] = -np.inf
        for inside, seen in _taps(images, out, size, stride, pad):
            np.maximum(largest[inside], images[seen], out=largest[inside])

    _over_channels(task, y)
    return y


@kernel("numpy", "max_pooling_backward")
def max_pooling_backward(dy: Host, x: Host, y: Host, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> Host:
    """As `xpdl.ops.pooling.max_pooling_backward`."""
    if not dy.dtype == x.dtype == y.dtype or x.dtype.kind != "f" or not y.size:
        return DECLINE  # type: ignore[no-any-return]
    dx = np.empty_like(x)
    overlapping = size[0] > stride[0] or size[1] > stride[1]
    covered = size == stride and pad == (0, 0) and all(y.shape[i] * size[i - 2] == x.shape[i] for i in (2, 3))

    def task(channels: slice) -> None:
        images, largest, into = x[:, channels], y[:, channels], dx[:, channels]
        if not covered:
            into[...] = 0
        # what has found no winner yet; products and differences of the bits as ints are exact, also for infinities
        left = np.empty_like(largest)
        left[...] = dy[:, channels]
        for inside, seen in _taps(images, (y.shape[2], y.shape[3]), size, stride, pad):
            wins = images[seen] == largest[inside]
            if overlapping:
                won = np.empty_like(largest[inside])
                np.multiply(bits(left[inside]), wins, out=bits(won))
                into[seen] += won
            else:
                won = into[seen]
                np.multiply(bits(left[inside]), wins, out=bits(won))
            bits(left)[inside] -= bits(won)

    _over_channels(task, y)
    return dx


def _out_size(x: Host, size: Pair, stride: Pair, pad: Pair) -> Pair:
    height, width = ((x.shape[i + 2] + 2 * pad[i] - size[i]) // stride[i] + 1 for i in (0, 1))
    return height, width


def _empty_in_order_of(x: Host, size: Pair) -> Host:
    """(N, C, *size) with the axes in the order that `x` has them in memory."""
    shape = (*x.shape[:2], *size)
    axes = sorted(range(4), key=lambda axis: -abs(x.strides[axis]))
    in_memory = np.empty([shape[axis] for axis in axes], x.dtype)
    return in_memory.transpose(np.argsort(axes))


def _taps(x: Host, out: Pair, size: Pair, stride: Pair, pad: Pair) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """For each tap of the window, row by row: which outputs have it inside the image, and where they see it."""
    for u in range(size[0]):
        for v in range(size[1]):
            inside: list[slice] = []
            seen: list[slice] = []
            for i, tap in enumerate((u, v)):
                offset, length = tap - pad[i], x.shape[i + 2]
                first = max(0, -(offset // stride[i]))
                last = min(out[i], (length - 1 - offset) // stride[i] + 1)
                if first >= last:
                    break
                inside.append(slice(first, last))
                seen.append(slice(first * stride[i] + offset, (last - 1) * stride[i] + offset + 1, stride[i]))
            if len(inside) == 2:
                yield (..., *inside), (..., *seen)


def _over_channels(task: Callable[[slice], None], y: Host) -> None:
    """Run `task` on some channels at a time: windows of different channels share nothing."""
    channels = y.shape[1]
    count = max(1, min(channels, y.size // _TASK_SIZE))
    if count == 1:
        task(slice(None))
        return
    edges = [channels * k // count for k in range(count + 1)]
    threads.run([functools.partial(task, slice(*edges[k : k + 2])) for k in range(count)])
