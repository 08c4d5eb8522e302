"""Heads of attention, side by side in memory as projections give them, or apart as products of stacks need them.

Several arrays are moved by one launch, which casts half precision as well.
"""

from __future__ import annotations

import numpy as np

from xpdl.backends.cupy.launch import (
    BLOCK,
    by_value,
    computing_dtype,
    contiguous,
    dtype_name,
    empty,
    launch,
)
from xpdl.backends.namespaces import Array

# As in cuda/layout.cu.
MOVED = 5
_MOST_BLOCKS = 1 << 12


def apart(*arrays: Array) -> list[Array]:
    """Arrays (N, heads, T, D) as contiguous ones (N heads, T, D), in the dtype that is computed with."""
    wide = [computing_dtype(a.dtype) for a in arrays]
    found: list[Array] = [
        a if a.dtype == to and a.flags.c_contiguous else None for a, to in zip(arrays, wide, strict=True)
    ]
    moved = [k for k, a in enumerate(found) if a is None]
    for k in moved:
        found[k] = empty(arrays[k].shape, wide[k])
    lying = [_beside(contiguous(_beside(arrays[k]))) for k in moved]
    _move("heads_apart", lying, [found[k] for k in moved], lying)
    return [a.reshape(a.shape[0] * a.shape[1], *a.shape[2:]) for a in found]


def beside(heads: int, dtype: object, *arrays: Array) -> list[Array]:
    """The reverse: arrays (N, heads, T, D) of a dtype, in memory of the order (N, T, heads, D)."""
    shaped = [a.reshape(a.shape[0] // heads, heads, *a.shape[1:]) for a in arrays]
    found = [a if a.dtype == dtype and _beside(a).flags.c_contiguous else _empty(a, dtype) for a in shaped]
    moved = [k for k, a in enumerate(found) if a is not shaped[k]]
    to = [found[k] for k in moved]
    _move("heads_beside", [shaped[k] for k in moved], to, to)
    return found


def _move(name: str, arrays: list[Array], to: list[Array], stored: list[Array]) -> None:
    """Launch a kernel for arrays of equal N, heads and D; `stored` are those in the dtype of the caller."""
    if not arrays:
        return
    table = np.zeros((3, MOVED), np.int64)
    for k, (source, target) in enumerate(zip(arrays, to, strict=True)):
        table[:, k] = source.data.ptr, target.data.ptr, source.shape[2]
    n, heads, _, size = arrays[0].shape
    largest = max(a.size for a in arrays)
    grid = min(-(-largest // BLOCK), _MOST_BLOCKS), len(arrays)
    args = (by_value(table.reshape(-1)), heads, size, n * heads)
    launch("layout", name, dtype_name(stored[0].dtype), grid, (BLOCK,), args, largest)


def _beside(a: Array) -> Array:
    """(N, heads, T, D) as (N, T, heads, D), and the reverse."""
    return a.transpose(0, 2, 1, 3)


def _empty(like: Array, dtype: object) -> Array:
    n, heads, steps, size = like.shape
    return _beside(empty((n, steps, heads, size), dtype))
