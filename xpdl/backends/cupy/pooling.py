"""Pooling, forward and backward, without atomics: equal runs give equal bits."""

from __future__ import annotations

from typing import Any

from xpdl.backends.cupy.launch import each, empty, kernel, named, ready, served, struct
from xpdl.backends.dispatch import DECLINE
from xpdl.backends.namespaces import Array

Pair = tuple[int, int]


@kernel("max_pooling")
def max_pooling(x: Array, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> Array:
    """As `xpdl.ops.pooling.max_pooling`."""
    return _forward("max_pooling", x, size, stride, pad)


@kernel("average_pooling")
def average_pooling(x: Array, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> Array:
    """As `xpdl.ops.pooling.average_pooling`."""
    return _forward("average_pooling", x, size, stride, pad)


@kernel("max_pooling_backward")
def max_pooling_backward(dy: Array, x: Array, y: Array, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> Array:
    """As `xpdl.ops.pooling.max_pooling_backward`."""
    if not served(dy, x, y) or dy.shape != y.shape:
        return DECLINE
    dx = empty(x.shape, x.dtype)
    windows = _windows(x, _out_size(x, size, stride, pad), size, stride, pad)
    each(
        "pooling", "max_pooling_backward", named(x.dtype), x.size, *map(ready, (dy, x, y)), dx, windows, largest=y.size
    )
    return dx


@kernel("average_pooling_backward")
def average_pooling_backward(dy: Array, x: Array, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> Array:
    """As `xpdl.ops.pooling.average_pooling_backward`."""
    if not served(dy, x):
        return DECLINE
    dx = empty(x.shape, x.dtype)
    windows = _windows(x, (dy.shape[2], dy.shape[3]), size, stride, pad)
    each("pooling", "average_pooling_backward", named(x.dtype), x.size, ready(dy), dx, windows, largest=dy.size)
    return dx


def _forward(name: str, x: Array, size: Pair, stride: Pair, pad: Pair) -> Array:
    out = _out_size(x, size, stride, pad)
    if not served(x) or min(out) < 1:  # the generic op says what does not fit
        return DECLINE
    y = empty((*x.shape[:2], *out), x.dtype)
    each("pooling", name, named(x.dtype), y.size, ready(x), y, _windows(x, out, size, stride, pad), largest=x.size)
    return y


def _out_size(x: Array, size: Pair, stride: Pair, pad: Pair) -> Pair:
    height, width = ((x.shape[i + 2] + 2 * pad[i] - size[i]) // stride[i] + 1 for i in (0, 1))
    return height, width


def _windows(x: Array, out: Pair, size: Pair, stride: Pair, pad: Pair) -> Any:
    return struct("H W OH OW KH KW SH SW PH PW", *x.shape[2:], *out, *size, *stride, *pad)
