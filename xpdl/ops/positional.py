"""Encodings of the positions of a sequence, added to its values."""

from __future__ import annotations

import math

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, device
from xpdl.ops.precision import in_float32


@op
@in_float32
def sinusoidal_positions(x: Array, base: float = 10000.0) -> Array:
    """Add ``sin(t / base^(2 d / E))`` to value 2 d of position t of `x` (N, T, E), and the cosine to value 2 d + 1."""
    xp, size = array_namespace(x), x.shape[-1]
    place = {"dtype": x.dtype, "device": device(x)}
    half = (size + 1) // 2
    speed = xp.exp(xp.arange(half, **place) * (-2.0 * math.log(base) / size))
    angle = xp.expand_dims(xp.arange(x.shape[-2], **place), axis=-1) * speed
    pairs = xp.stack([xp.sin(angle), xp.cos(angle)], axis=-1)
    return x + xp.reshape(pairs, (x.shape[-2], 2 * half))[:, :size]


@op
@in_float32
def learned_positions(x: Array, W: Array) -> Array:
    """Add row t of `W` (length, E) to position t of `x` (N, T, E)."""
    return x + W[: x.shape[1], :]


@op
@in_float32
def learned_positions_backward(dy: Array, length: int) -> tuple[Array, Array]:
    """Return ``dx``, which is `dy` (N, T, E), and ``dW`` (length, E), its sum over the rows; 0 beyond the positions."""
    xp = array_namespace(dy)
    dW = xp.sum(dy, axis=0)
    if length == dy.shape[1]:
        return dy, dW
    rest = xp.zeros((length - dy.shape[1], dy.shape[2]), dtype=dy.dtype, device=device(dy))
    return dy, xp.concat([dW, rest], axis=0)
