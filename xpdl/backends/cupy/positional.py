"""Encodings of positions: one launch instead of a dozen of CuPy's."""

from __future__ import annotations

import math

from xpdl.backends.cupy.launch import contiguous, dtype_name, empty, kernel, launch_elementwise, struct, supports
from xpdl.backends.namespaces import Array
from xpdl.backends.registry import DECLINE

# As in cuda/positional.cu.
_ROTATION = "heads steps half x_n x_head x_step y_n y_head y_step"


@kernel("rotary")
def rotary(x: Array, base: float = 10000.0, first: int = 0, inverse: bool = False) -> Array:
    """As `xpdl.ops.attention.rotary`.

    Queries and keys are heads side by side, as products give them, and attention reads them apart. So the result of the
    forward pass is contiguous, and that of the backward pass lies as (N, T, heads, D).
    """
    if not supports(x) or x.ndim not in (2, 3, 4) or x.shape[-1] % 2:
        return DECLINE
    shape, half = (1,) * (4 - x.ndim) + x.shape, x.shape[-1] // 2
    heads = x.reshape(shape) if x.ndim < 4 else x
    heads = heads if _beside(heads).flags.c_contiguous else contiguous(heads)
    n, count, steps, size = shape
    y = _beside(empty((n, steps, count, size), x.dtype)) if inverse else empty(shape, x.dtype)
    strides = [step // x.itemsize for a in (heads, y) for step in a.strides[:3]]
    rotation = struct(_ROTATION, count, steps, half, *strides)
    args = (_in_memory(heads), _in_memory(y), -math.log(base) / half, int(first), -1.0 if inverse else 1.0, rotation)
    launch_elementwise("positional", "rotary", dtype_name(x.dtype), x.size // 2, *args, largest=x.size)
    return y if x.ndim == 4 else y.reshape(x.shape)


@kernel("sinusoidal_positions")
def sinusoidal_positions(x: Array, base: float = 10000.0) -> Array:
    """As `xpdl.ops.positional.sinusoidal_positions`."""
    if not supports(x) or x.ndim != 3:
        return DECLINE
    y, (_, steps, size) = empty(x.shape, x.dtype), x.shape
    args = (contiguous(x), y, -2.0 * math.log(base) / size, steps, size)
    launch_elementwise("positional", "sinusoidal_positions", dtype_name(x.dtype), x.size, *args)
    return y


def _beside(a: Array) -> Array:
    """(N, heads, T, D) as (N, T, heads, D), and the reverse."""
    return a.transpose(0, 2, 1, 3)


def _in_memory(a: Array) -> Array:
    """`a` or `_beside` of it, the one that is contiguous."""
    return a if a.flags.c_contiguous else _beside(a)
