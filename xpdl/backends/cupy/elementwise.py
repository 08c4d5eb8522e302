"""Activations and dropout in one pass over memory each."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.cupy import capture
from xpdl.backends.cupy.launch import BLOCK, contiguous, dtype_name, kernel, launch, same_device, supports
from xpdl.backends.cupy.layout import empty_images, in_layout, is_channels_last
from xpdl.backends.epilogues import is_relu
from xpdl.backends.namespaces import Array
from xpdl.backends.random import mask_keys, mask_threshold
from xpdl.backends.registry import DECLINE

# A thread takes so many bytes at once, as cuda/packs.cuh does; beyond that many blocks it goes on with others.
_BYTES, _MOST_BLOCKS = 16, 1 << 12
_ANY = np.dtype("float32")


def _launch(name: str, dtype: Any, size: int, *args: Any) -> None:
    """Start a kernel whose threads take packs of the `size` values of `dtype`, its last argument."""
    launch("elementwise", name, dtype_name(dtype), *pack_shares(size, dtype), (*args, size), size)


def pack_shares(size: int, dtype: Any) -> tuple[tuple[int], tuple[int]]:
    """Grid and block of a kernel whose threads take packs of `size` values."""
    return (min(-(-size * dtype.itemsize // (_BYTES * BLOCK)), _MOST_BLOCKS),), (BLOCK,)


def _map(name: str, *arrays: Array, options: tuple[int | float, ...] = ()) -> Array:
    """A new array of the shape of those given, which are alike, in their order in memory."""
    first = arrays[0]
    if not supports(*arrays) or any(a.shape != first.shape for a in arrays):
        return DECLINE
    last = is_channels_last(*arrays)
    y = empty_images(first.shape, first.dtype, last)
    _launch(name, first.dtype, first.size, *(in_layout(a, last) for a in arrays), y, *options)
    return y


@kernel("add")
def add(x: Array, y: Array, *, activation: str | None = None) -> Array:
    """As `xpdl.ops.arithmetic.add`."""
    return _map("add", x, y, options=(int(is_relu(activation)),))


@kernel("relu")
def relu(x: Array) -> Array:
    """As `xpdl.ops.activations.relu`."""
    return _map("relu", x)


@kernel("relu_backward")
def relu_backward(dy: Array, y: Array) -> Array:
    """As `xpdl.ops.activations.relu_backward`."""
    return _map("relu_backward", dy, y)


@kernel("sigmoid")
def sigmoid(x: Array) -> Array:
    """As `xpdl.ops.activations.sigmoid`."""
    return _map("sigmoid", x)


@kernel("sigmoid_backward")
def sigmoid_backward(dy: Array, y: Array) -> Array:
    """As `xpdl.ops.activations.sigmoid_backward`."""
    return _map("sigmoid_backward", dy, y)


@kernel("tanh_backward")
def tanh_backward(dy: Array, y: Array) -> Array:
    """As `xpdl.ops.activations.tanh_backward`."""
    return _map("tanh_backward", dy, y)


@kernel("leaky_relu")
def leaky_relu(x: Array, slope: float = 0.01) -> Array:
    """As `xpdl.ops.activations.leaky_relu`."""
    return _map("leaky_relu", x, options=(float(slope),))


@kernel("leaky_relu_backward")
def leaky_relu_backward(dy: Array, y: Array, slope: float = 0.01) -> Array:
    """As `xpdl.ops.activations.leaky_relu_backward`."""
    return _map("leaky_relu_backward", dy, y, options=(float(slope),))


@kernel("elu")
def elu(x: Array, alpha: float = 1.0) -> Array:
    """As `xpdl.ops.activations.elu`."""
    return _map("elu", x, options=(float(alpha),))


@kernel("elu_backward")
def elu_backward(dy: Array, y: Array, alpha: float = 1.0) -> Array:
    """As `xpdl.ops.activations.elu_backward`."""
    return _map("elu_backward", dy, y, options=(float(alpha),))


@kernel("silu")
def silu(x: Array) -> Array:
    """As `xpdl.ops.activations.silu`."""
    return _map("silu", x)


@kernel("silu_backward")
def silu_backward(dy: Array, x: Array) -> Array:
    """As `xpdl.ops.activations.silu_backward`."""
    return _map("silu_backward", dy, x)


@kernel("softplus")
def softplus(x: Array) -> Array:
    """As `xpdl.ops.activations.softplus`."""
    return _map("softplus", x)


@kernel("softplus_backward")
def softplus_backward(dy: Array, y: Array) -> Array:
    """As `xpdl.ops.activations.softplus_backward`."""
    return _map("softplus_backward", dy, y)


@kernel("gelu")
def gelu(x: Array, approximate: str = "none") -> Array:
    """As `xpdl.ops.gelu.gelu`."""
    return _map("gelu", x, options=(int(approximate == "tanh"),))


@kernel("gelu_backward")
def gelu_backward(dy: Array, x: Array, approximate: str = "none") -> Array:
    """As `xpdl.ops.gelu.gelu_backward`."""
    return _map("gelu_backward", dy, x, options=(int(approximate == "tanh"),))


@kernel("dropout")
def dropout(x: Array, mask: Array, scale: float = 1.0) -> Array:
    """As `xpdl.ops.dropout.dropout`."""
    if not supports(x) or not same_device(x, mask) or dtype_name(mask.dtype) != "bool" or mask.shape != x.shape:
        return DECLINE
    last = is_channels_last(x, mask)
    y = empty_images(x.shape, x.dtype, last)
    _launch("dropout", x.dtype, x.size, in_layout(x, last), in_layout(mask, last), y, float(scale))
    return y


@kernel("dropout_mask")
def dropout_mask(x: Array, drop_ratio: float, words: tuple[int, ...], counter: int, first_row: int = 0) -> Array:
    """As `xpdl.ops.dropout.dropout_mask`, bitwise identical."""
    if not x.size or first_row:
        return DECLINE
    last = is_channels_last(x)
    mask = empty_images(x.shape, bool, last)
    channels, pixels = (x.shape[1], x.shape[2] * x.shape[3]) if last else (1, 1)
    # no value of x is read: any instance does
    keys = capture.mask_args(words, counter)
    given = (*mask_keys(words, counter), 0) if keys is None else (0, 0, keys)
    _launch("dropout_mask", _ANY, x.size, mask, *given, mask_threshold(drop_ratio), channels, pixels)
    return mask


def add_bias(y: Array, b: Array | None, *, relu: bool = False) -> None:
    """Add `b` (C,) to axis 1 of `y` (N, C, ...) and, with `relu`, rectify it, in place."""
    channels = y.shape[1]
    inner = y.size // (y.shape[0] * channels)
    bias = 0 if b is None else contiguous(b)
    _launch("add_bias", y.dtype, y.size, y, bias, int(relu), channels, inner)
