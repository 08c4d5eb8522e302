"""Products of matrices in compiled code, by the BLAS that NumPy itself was built with."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import llvmlite.binding
import numpy as np
import threadpoolctl
from numba import types
from numba.extending import overload

from xpdl.backends.numba import BlasError
from xpdl.backends.numba.jit import inline

F = TypeVar("F", bound=Callable[..., Any])

_ROWS, _AS_IT_IS, _TRANSPOSED = 101, 111, 112  # of CBLAS: order of memory, and whether a matrix is transposed


def _function(letter: str) -> Any:
    """CBLAS's product of float32 (s) or float64 (d) matrices, under a name that compiled code finds it by."""
    for library in _openblas():
        for affixes in itertools.product(("scipy_", ""), ("64_", "_64", "")):
            found = getattr(library.dynlib, f"cblas_{letter}gemm".join(affixes), None)
            if found is not None:
                # 64 in a name stands for sizes of 64 bits
                bits = 64 if "64" in affixes[1] else 32
                name = f"xpdl_{letter}gemm_{bits}"
                llvmlite.binding.add_symbol(name, ctypes.cast(found, ctypes.c_void_p).value)
                return types.ExternalFunction(name, _signature(letter, types.int64 if bits == 64 else types.int32))
    raise BlasError("NumPy was not built with an OpenBLAS that could be called from compiled code")


def _openblas() -> list[Any]:
    """The copy that came with NumPy, else one of the system; not what other packages of this process have brought."""
    found = threadpoolctl.ThreadpoolController().select(internal_api="openblas").lib_controllers
    packages = Path(np.__file__).resolve().parents[1]
    own = [
        library
        for library in found
        if _lies_in(packages / "numpy", library) or _lies_in(packages / "numpy.libs", library)
    ]
    return own or [library for library in found if not _lies_in(packages, library)]


def _lies_in(folder: Path, library: Any) -> bool:
    return Path(library.filepath).is_relative_to(folder)


def _signature(letter: str, size: Any) -> Any:
    scalar = types.float32 if letter == "s" else types.float64
    matrix = (types.CPointer(scalar), size)
    order_and_shape = (types.intc, types.intc, types.intc, size, size, size)
    return types.void(*order_and_shape, scalar, *matrix, *matrix, scalar, *matrix)


_sgemm, _dgemm = _function("s"), _function("d")


@inline
def _apart(x: Any) -> Any:
    """Return the leading dimension in elements; a single row, or none, may have any stride, which BLAS ignores."""
    return max(1, x.strides[0] // x.itemsize if x.shape[0] > 1 else x.shape[1])


_overload: Callable[..., Callable[[F], F]] = overload


def _gemm(*arguments: Any) -> None:
    """The product of CBLAS for the dtype of the arrays; only in compiled code."""


@_overload(_gemm, inline="always")
def _gemm_of_dtype(ta: Any, tb: Any, m: Any, n: Any, k: Any, a: Any, b: Any, beta: Any, c: Any) -> Any:
    product = _sgemm if c.dtype == types.float32 else _dgemm
    scalar = c.dtype

    def gemm(ta: Any, tb: Any, m: Any, n: Any, k: Any, a: Any, b: Any, beta: Any, c: Any) -> None:
        one, beta = scalar(1), scalar(beta)
        product(_ROWS, ta, tb, m, n, k, one, a.ctypes, _apart(a), b.ctypes, _apart(b), beta, c.ctypes, _apart(c))

    return gemm


@inline
def product(a: Any, b: Any, out: Any) -> None:
    """`out` (M, N) becomes `a` (M, K) times `b` (K, N); lines of each may have gaps between them."""
    _gemm(_AS_IT_IS, _AS_IT_IS, a.shape[0], b.shape[1], a.shape[1], a, b, 0, out)


@inline
def add_product_of_lines(a: Any, b: Any, out: Any) -> None:
    """`a` (M, K) times `b` (N, K), transposed, is added to `out` (M, N)."""
    _gemm(_AS_IT_IS, _TRANSPOSED, a.shape[0], b.shape[0], a.shape[1], a, b, 1, out)
