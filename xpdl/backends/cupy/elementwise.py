"""Activations and dropout in one pass over memory each."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.cupy import capture
from xpdl.backends.cupy.launch import BLOCK, contiguous, dtype_name, empty, kernel, launch, same_device, supports
from xpdl.backends.namespaces import Array
from xpdl.backends.random import mask_keys, mask_threshold
from xpdl.backends.registry import DECLINE

# A thread takes so many bytes at once, as cuda/packs.cuh does; beyond that many blocks it goes on with others.
_BYTES, _MOST_BLOCKS = 16, 1 << 12
_ANY = np.dtype("float32")


def _launch(name: str, dtype: Any, size: int, *args: Any) -> None:
    """Start a kernel whose threads take packs of the `size` values of `dtype`, its last argument."""
    blocks = min(-(-size * dtype.itemsize // (_BYTES * BLOCK)), _MOST_BLOCKS)
    launch("elementwise", name, dtype_name(dtype), (blocks,), (BLOCK,), (*args, size), size)


def _map(name: str, *arrays: Array) -> Array:
    """A new array of the shape of those given, which are alike."""
    first = arrays[0]
    if not supports(*arrays) or any(a.shape != first.shape for a in arrays):
        return DECLINE
    y = empty(first.shape, first.dtype)
    _launch(name, first.dtype, first.size, *map(contiguous, arrays), y)
    return y


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


@kernel("dropout")
def dropout(x: Array, mask: Array, scale: float = 1.0) -> Array:
    """As `xpdl.ops.dropout.dropout`."""
    if not supports(x) or not same_device(x, mask) or dtype_name(mask.dtype) != "bool" or mask.shape != x.shape:
        return DECLINE
    y = empty(x.shape, x.dtype)
    _launch("dropout", x.dtype, x.size, contiguous(x), contiguous(mask), y, float(scale))
    return y


@kernel("dropout_mask")
def dropout_mask(x: Array, drop_ratio: float, words: tuple[int, ...], counter: int) -> Array:
    """As `xpdl.ops.dropout.dropout_mask`, the same bits."""
    if not x.size:
        return DECLINE
    mask = empty(x.shape, bool)
    # no value of x is read: any instance does
    keys = capture.mask_slots(words, counter)
    given = (*mask_keys(words, counter), 0) if keys is None else (0, 0, keys)
    _launch("dropout_mask", _ANY, x.size, mask, *given, mask_threshold(drop_ratio))
    return mask


def add_bias(y: Array, b: Array | None, *, relu: bool = False) -> None:
    """Add `b` (C,) to axis 1 of `y` (N, C, ...) and, with `relu`, rectify it, in place."""
    channels = y.shape[1]
    inner = y.size // (y.shape[0] * channels)
    bias = 0 if b is None else contiguous(b)
    _launch("add_bias", y.dtype, y.size, y, bias, int(relu), channels, inner)
