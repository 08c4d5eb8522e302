"""Pooling, forward and backward, without atomics: equal runs give equal bits.

The forward pass notes which value of each window was the largest, one byte a window: the backward pass reads that byte and
neither the images nor the maxima. Channels-last images have kernels of their own (``cuda/pooling_channels_last.cu``).
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

from xpdl.backends.arrays import Pads, Pair
from xpdl.backends.cupy import tiles
from xpdl.backends.cupy.elementwise import relu_backward
from xpdl.backends.cupy.launch import (
    BLOCK,
    contiguous,
    dtype_name,
    kernel,
    launch,
    launch_elementwise,
    same_device,
    struct,
    supports,
)
from xpdl.backends.cupy.layout import empty_images, in_layout, is_channels_last
from xpdl.backends.epilogues import is_relu
from xpdl.backends.geometry import is_plain, output_size
from xpdl.backends.namespaces import Array
from xpdl.backends.registry import DECLINE

# 255 stands for none.
_MOST_TAPS = 255
_BYTES = 16  # that a thread reads at once, as in cuda/packs.cuh
_BACKWARD = ("max_pooling_backward", "gradient_to_taps", "average_pooling_backward")


@kernel("max_pooling")
def max_pooling(
    x: Array,
    size: Pair,
    stride: Pair,
    pad: Pair = (0, 0),
    *,
    dilation: Pair = (1, 1),
    activation: str | None = None,
) -> Array:
    """As `xpdl.ops.pooling.max_pooling`."""
    if not _fits(x, pad, dilation):
        return DECLINE
    return _forward("max_pooling", x, size, stride, pad, 0, int(is_relu(activation)))


@kernel("max_pooling_with_taps")
def max_pooling_with_taps(
    x: Array,
    size: Pair,
    stride: Pair,
    pad: Pair = (0, 0),
    *,
    dilation: Pair = (1, 1),
    activation: str | None = None,
) -> tuple[Array, Array | None]:
    """As `xpdl.ops.pooling.max_pooling_with_taps`."""
    if not _fits(x, pad, dilation):
        return DECLINE
    relu, out = is_relu(activation), output_size(x.shape, size, stride, pad)
    if size[0] * size[1] > _MOST_TAPS or min(out) < 1:
        return DECLINE
    taps = empty_images((*x.shape[:2], *out), "uint8", is_channels_last(x))
    y = _forward("max_pooling", x, size, stride, pad, taps, int(relu))
    return y if y is DECLINE else (y, taps)


@kernel("average_pooling")
def average_pooling(
    x: Array,
    size: Pair,
    stride: Pair,
    pad: Pair = (0, 0),
    *,
    dilation: Pair = (1, 1),
    counted_pad: Pads | None = None,
) -> Array:
    """As `xpdl.ops.pooling.average_pooling`."""
    if not _fits(x, pad, dilation, counted_pad):
        return DECLINE
    return _forward("average_pooling", x, size, stride, pad)


@kernel("max_pooling_backward")
def max_pooling_backward(
    dy: Array,
    x: Array,
    y: Array,
    size: Pair,
    stride: Pair,
    pad: Pair = (0, 0),
    taps: Array | None = None,
    *,
    dilation: Pair = (1, 1),
    activation: str | None = None,
) -> Array:
    """As `xpdl.ops.pooling.max_pooling_backward`; taps also say which windows have positive values."""
    relu = is_relu(activation)
    if not _fits(x, pad, dilation):
        return DECLINE
    if taps is not None and supports(dy, x) and same_device(x, taps) and taps.shape == dy.shape:
        return _to_taps(dy, x, taps, size, stride, pad)
    if not supports(dy, x, y) or dy.shape != y.shape:
        return DECLINE
    if relu:
        dy = relu_backward(dy, y)
    # without taps, which is for windows of 256 values and more, there is a kernel for the order of axes alone
    dy, x, y = (in_layout(a, False) for a in (dy, x, y))
    dx = empty_images(x.shape, x.dtype, False)
    _launch("max_pooling_backward", x, output_size(x.shape, size, stride, pad), (size, stride, pad), dy, x, y, dx)
    return dx


@kernel("average_pooling_backward")
def average_pooling_backward(
    dy: Array,
    x: Array,
    size: Pair,
    stride: Pair,
    pad: Pair = (0, 0),
    *,
    dilation: Pair = (1, 1),
    counted_pad: Pads | None = None,
) -> Array:
    """As `xpdl.ops.pooling.average_pooling_backward`."""
    if not _fits(x, pad, dilation, counted_pad) or not supports(dy, x):
        return DECLINE
    return _backward("average_pooling_backward", x, (size, stride, pad), dy)


@kernel("global_average_pooling")
def global_average_pooling(x: Array) -> Array:
    """As `xpdl.ops.pooling.global_average_pooling`, of channels-last images, which CuPy would reduce value by value."""
    if x.ndim != 4 or not is_channels_last(x):
        return DECLINE
    y = _forward("average_pooling", x, (x.shape[2], x.shape[3]), (1, 1), (0, 0))
    return y if y is DECLINE else y.reshape(x.shape[:2])


@kernel("global_average_pooling_backward")
def global_average_pooling_backward(dy: Array, x: Array) -> Array:
    """As `xpdl.ops.pooling.global_average_pooling_backward`, for channels-last images."""
    if x.ndim != 4 or not is_channels_last(x) or not supports(dy, x) or dy.shape != x.shape[:2]:
        return DECLINE
    size = (x.shape[2], x.shape[3])
    return _backward("average_pooling_backward", x, (size, (1, 1), (0, 0)), contiguous(dy).reshape(*dy.shape, 1, 1))


def _fits(x: Array, pad: Pair, dilation: Pair, counted_pad: Pads | None = None) -> bool:
    """Return whether kernels have these options: the generic op reduces others to them, or computes them."""
    return is_plain(x, pad) and dilation == (1, 1) and counted_pad is None


def _to_taps(dy: Array, x: Array, taps: Array, size: Pair, stride: Pair, pad: Pair) -> Array:
    return _backward("gradient_to_taps", x, (size, stride, pad), dy, taps)


def _forward(name: str, x: Array, size: Pair, stride: Pair, pad: Pair, *noted: Any) -> Array:
    out = output_size(x.shape, size, stride, pad)
    if not supports(x) or min(out) < 1:  # the generic op says what does not fit
        return DECLINE
    last = is_channels_last(x)
    x = in_layout(x, last)
    y = empty_images((*x.shape[:2], *out), x.dtype, last)
    start = _launch_channels_last if last else _launch
    start(name, x, out, (size, stride, pad), x, y, *noted)
    return y


def _backward(name: str, x: Array, options: tuple[Pair, Pair, Pair], dy: Array, *noted: Array) -> Array:
    """``dx`` of the shape of `x`, channels-last where `x` or `dy` is."""
    last = is_channels_last(x, dy)
    dx = empty_images(x.shape, x.dtype, last)
    start = _launch_channels_last if last else _launch
    start(name, x, (dy.shape[2], dy.shape[3]), options, *(in_layout(a, last) for a in (dy, *noted)), dx)
    return dx


def _launch(name: str, x: Array, out: Pair, options: tuple[Pair, Pair, Pair], *args: Any) -> None:
    """Start a kernel between images like `x` and windows, `out` of an image."""
    backward = name in _BACKWARD
    grid, *shapes = _plan(backward, x.shape, out, *options, x.dtype.itemsize)
    largest = max(x.size, x.shape[0] * x.shape[1] * out[0] * out[1])
    launch("pooling", name, dtype_name(x.dtype), grid, (BLOCK,), (*args, *shapes), largest)


def _launch_channels_last(name: str, x: Array, out: Pair, options: tuple[Pair, Pair, Pair], *args: Any) -> None:
    """Start a kernel as `_launch` does, of channels-last images; threads share packs of channels."""
    n, channels, *image = x.shape
    width = _BYTES // x.itemsize
    arrays = (a for a in args if not isinstance(a, int))
    wide = channels % width == 0 and all(a.data.ptr % (width * a.itemsize) == 0 for a in arrays)
    images = struct("H W OH OW KH KW SH SW PH PW C wide", *image, *out, *itertools.chain(*options), channels, wide)
    places = n * math.prod(image if name in _BACKWARD else out)
    size = places * (channels // width if wide else channels)
    largest = n * channels * max(math.prod(image), math.prod(out))
    args = (*args, images)
    name = f"{name}_channels_last"
    launch_elementwise("pooling_channels_last", name, dtype_name(x.dtype), size, *args, largest=largest)


@functools.lru_cache(maxsize=1024)
def _plan(
    backward: bool, shape: tuple[int, ...], out: Pair, size: Pair, stride: Pair, pad: Pair, itemsize: int
) -> tuple[Any, ...]:
    """The grid and the last arguments of a kernel whose result is the images, if `backward`, or else the windows."""
    planes, images = shape[0] * shape[1], (shape[2], shape[3])
    result, source = (images, out) if backward else (out, images)

    def seen(rows: int) -> int:
        return (rows + size[0] - 2) // stride[0] + 1 if backward else (rows - 1) * stride[0] + size[0]

    bands = tiles.bands(planes, result, source, seen, itemsize)
    windows = struct("H W OH OW KH KW SH SW PH PW", *images, *out, *size, *stride, *pad)
    divisors = map(tiles.divisor, (*result, *stride))
    cut = struct("planes rows per_plane count staged result_rows result_columns stride_h stride_w", *bands, *divisors)
    return (min(bands.total, tiles.MOST_BLOCKS),), windows, cut, planes
