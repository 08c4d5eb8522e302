"""Pooling, forward and backward, without atomics: equal runs give equal bits.

The forward pass notes which value of each window was the largest, one byte a window: the backward pass reads that byte and
neither the images nor the maxima.
"""

from __future__ import annotations

from typing import Any

from xpdl.backends.cupy.launch import (
    contiguous,
    dtype_name,
    empty,
    kernel,
    launch_elementwise,
    same_device,
    struct,
    supports,
)
from xpdl.backends.dispatch import DECLINE
from xpdl.backends.namespaces import Array

Pair = tuple[int, int]

# 255 stands for none.
_MOST_TAPS = 255


@kernel("max_pooling")
def max_pooling(x: Array, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> Array:
    """As `xpdl.ops.pooling.max_pooling`."""
    return _forward("max_pooling", x, size, stride, pad, 0, 0)


@kernel("max_pooling_with_taps")
def max_pooling_with_taps(x: Array, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> tuple[Array, Array | None]:
    """As `xpdl.ops.pooling.max_pooling_with_taps`."""
    return _with_taps(x, size, stride, pad, rectified=False)


@kernel("rectified_max_pooling_with_taps")
def rectified_max_pooling_with_taps(
    x: Array, size: Pair, stride: Pair, pad: Pair = (0, 0)
) -> tuple[Array, Array | None]:
    """As `xpdl.ops.pooling.rectified_max_pooling_with_taps`."""
    return _with_taps(x, size, stride, pad, rectified=True)


@kernel("average_pooling")
def average_pooling(x: Array, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> Array:
    """As `xpdl.ops.pooling.average_pooling`."""
    return _forward("average_pooling", x, size, stride, pad)


@kernel("max_pooling_backward")
def max_pooling_backward(
    dy: Array, x: Array, y: Array, size: Pair, stride: Pair, pad: Pair = (0, 0), taps: Array | None = None
) -> Array:
    """As `xpdl.ops.pooling.max_pooling_backward`."""
    if taps is not None and supports(dy, x) and same_device(x, taps) and taps.shape == dy.shape:
        return _to_taps(dy, x, taps, size, stride, pad)
    if not supports(dy, x, y) or dy.shape != y.shape:
        return DECLINE
    dx = empty(x.shape, x.dtype)
    windows = _windows(x, _out_size(x, size, stride, pad), size, stride, pad)
    launch_elementwise(
        "pooling",
        "max_pooling_backward",
        dtype_name(x.dtype),
        x.size,
        *map(contiguous, (dy, x, y)),
        dx,
        windows,
        largest=y.size,
    )
    return dx


@kernel("rectified_max_pooling_backward")
def rectified_max_pooling_backward(
    dy: Array, x: Array, y: Array, size: Pair, stride: Pair, pad: Pair = (0, 0), taps: Array | None = None
) -> Array:
    """As `xpdl.ops.pooling.rectified_max_pooling_backward`, where there are taps: they say which windows are positive."""
    if taps is None or not supports(dy, x) or not same_device(x, taps) or taps.shape != dy.shape:
        return DECLINE
    return _to_taps(dy, x, taps, size, stride, pad)


@kernel("average_pooling_backward")
def average_pooling_backward(dy: Array, x: Array, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> Array:
    """As `xpdl.ops.pooling.average_pooling_backward`."""
    if not supports(dy, x):
        return DECLINE
    dx = empty(x.shape, x.dtype)
    windows = _windows(x, (dy.shape[2], dy.shape[3]), size, stride, pad)
    launch_elementwise(
        "pooling", "average_pooling_backward", dtype_name(x.dtype), x.size, contiguous(dy), dx, windows, largest=dy.size
    )
    return dx


def _with_taps(x: Array, size: Pair, stride: Pair, pad: Pair, *, rectified: bool) -> tuple[Array, Array | None]:
    out = _out_size(x, size, stride, pad)
    if size[0] * size[1] > _MOST_TAPS or min(out) < 1:
        return DECLINE  # type: ignore[no-any-return]
    taps = empty((*x.shape[:2], *out), "uint8")
    y = _forward("max_pooling", x, size, stride, pad, taps, int(rectified))
    return y if y is DECLINE else (y, taps)


def _to_taps(dy: Array, x: Array, taps: Array, size: Pair, stride: Pair, pad: Pair) -> Array:
    dx = empty(x.shape, x.dtype)
    windows = _windows(x, (dy.shape[2], dy.shape[3]), size, stride, pad)
    launch_elementwise(
        "pooling",
        "gradient_to_taps",
        dtype_name(x.dtype),
        x.size,
        contiguous(dy),
        contiguous(taps),
        dx,
        windows,
        largest=dy.size,
    )
    return dx


def _forward(name: str, x: Array, size: Pair, stride: Pair, pad: Pair, *noted: Any) -> Array:
    out = _out_size(x, size, stride, pad)
    if not supports(x) or min(out) < 1:  # the generic op says what does not fit
        return DECLINE
    y = empty((*x.shape[:2], *out), x.dtype)
    windows = _windows(x, out, size, stride, pad)
    launch_elementwise("pooling", name, dtype_name(x.dtype), y.size, contiguous(x), y, *noted, windows, largest=x.size)
    return y


def _out_size(x: Array, size: Pair, stride: Pair, pad: Pair) -> Pair:
    height, width = ((x.shape[i + 2] + 2 * pad[i] - size[i]) // stride[i] + 1 for i in (0, 1))
    return height, width


def _windows(x: Array, out: Pair, size: Pair, stride: Pair, pad: Pair) -> Any:
    return struct("H W OH OW KH KW SH SW PH PW", *x.shape[2:], *out, *size, *stride, *pad)
