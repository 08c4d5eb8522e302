"""Stand for CuPy's Thrust functions: NumPy sorts along the last axis."""

from __future__ import annotations

import types
from typing import Any

import numpy as np

from hostcuda import core
from hostcuda.arrays import contiguous


def _check(dtype: Any) -> np.dtype[Any]:
    if np.dtype(dtype).char not in "?bBhHiIlLqQefdFD":
        raise NotImplementedError(f"Sorting arrays with dtype {dtype!r} is not supported")
    return np.dtype(dtype)


def sort(dtype: Any, data: int, keys: int, shape: Any) -> None:
    a = contiguous(data, _check(dtype), tuple(shape))

    def work() -> None:
        with core.open_memory():
            a[...] = np.sort(a, axis=-1, kind="stable")

    core.enqueue(work)


def argsort(dtype: Any, indices: int, data: int, keys: int, shape: Any) -> None:
    a = contiguous(data, _check(dtype), tuple(shape))
    result = contiguous(indices, np.dtype(np.intp), tuple(shape))

    def work() -> None:
        with core.open_memory():
            result[...] = np.argsort(a, axis=-1, kind="stable")
            a[...] = np.take_along_axis(a, result, axis=-1)

    core.enqueue(work)


def lexsort(dtype: Any, indices: int, keys: int, k: int, n: int) -> None:
    a = contiguous(keys, np.dtype(dtype), (k, n))
    result = contiguous(indices, np.dtype(np.intp), (n,))

    def work() -> None:
        with core.open_memory():
            result[...] = np.lexsort(a)

    core.enqueue(work)


def module() -> types.ModuleType:
    """The module that CuPy imports as ``cupy.cuda.thrust``."""
    made = types.ModuleType("cupy.cuda.thrust", __doc__)
    made.available = True  # type: ignore[attr-defined]
    made.get_build_version = lambda: 300000  # type: ignore[attr-defined]
    made.sort, made.argsort, made.lexsort = sort, argsort, lexsort  # type: ignore[attr-defined]
    return made
