"""Activations and dropout in one pass over memory each."""

from __future__ import annotations

from xpdl.backends.cupy import capture
from xpdl.backends.cupy.launch import beside, each, empty, kernel, named, ready, served
from xpdl.backends.dispatch import DECLINE
from xpdl.backends.namespaces import Array
from xpdl.backends.random import mask_keys, mask_threshold


def _map(name: str, *arrays: Array) -> Array:
    """A new array of the shape of those given, which are alike."""
    first = arrays[0]
    if not served(*arrays) or any(a.shape != first.shape for a in arrays):
        return DECLINE
    y = empty(first.shape, first.dtype)
    each("elementwise", name, named(first.dtype), first.size, *map(ready, arrays), y)
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
    if not served(x) or not beside(x, mask) or named(mask.dtype) != "bool" or mask.shape != x.shape:
        return DECLINE
    y = empty(x.shape, x.dtype)
    each("elementwise", "dropout", named(x.dtype), x.size, ready(x), ready(mask), y, float(scale))
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
    each("elementwise", "dropout_mask", "float32", x.size, mask, *given, mask_threshold(drop_ratio))
    return mask


def add_bias(y: Array, b: Array | None, *, relu: bool = False) -> None:
    """Add `b` (C,) to axis 1 of `y` (N, C, ...) and, with `relu`, rectify it, in place."""
    channels = y.shape[1]
    inner = y.size // (y.shape[0] * channels)
    bias = 0 if b is None else ready(b)
    each("elementwise", "add_bias", named(y.dtype), y.size, y, bias, int(relu), channels, inner)
