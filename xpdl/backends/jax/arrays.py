"""Arrays that kernels take."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax

Array: TypeAlias = Any

_FLOATS = ("float32", "float64")


def supports(first: Array, *others: Array | None) -> bool:
    """Return whether all are arrays of JAX, traced or not, of one dtype, float32 or float64, and the first is not empty.

    Half precision comes in float32, see `xpdl.backends.half_precision`.
    """
    dtype = first.dtype
    if dtype.name not in _FLOATS or not first.size:
        return False
    return all([a is None or (isinstance(a, jax.Array) and a.dtype == dtype) for a in others])
