"""Matrix products by cuBLAS, in the precision that is set.

Where cuBLAS cannot be called directly, CuPy calls it, and captured steps have a kernel of ours, in full precision.
"""

from __future__ import annotations

import functools

from xpdl.backends.cupy import capture, cublas, trace
from xpdl.backends.cupy.launch import (
    computing_dtype,
    contiguous,
    cupy,
    dtype_name,
    empty,
    launch,
    launch_elementwise,
    struct,
    submodule,
)
from xpdl.backends.cupy.namespace import multiplies
from xpdl.backends.namespaces import Array
from xpdl.backends.numerics import get_numerics
from xpdl.errors import BackendError

# As in cuda/products.cu.
TILE, SIDE, STEP = 64, 16, 16
# About two for each multiprocessor of a large GPU; a part of K is at least so deep, or adding them up is not worth it.
BLOCKS, DEPTH = 256, 64


@multiplies
def matmul(a: Array, b: Array) -> Array:
    """``a @ b``, of matrices or of stacks of them."""
    direct = cublas.problem() is None and cublas.fits(a.shape, b.shape)
    if capture.is_alike() and not direct:
        return tiled(a, b)
    if trace.calls is not None:
        trace.record_call("cublas", "gemm", dtype_name(a.dtype), a=a.shape, b=b.shape)
    precision = get_numerics().precision
    if dtype_name(a.dtype) == "float32":
        _set_precision(precision)  # for products of CuPy's own, too
    if direct:
        return cublas.matmul(a, b, precision)
    if a.shape[-2] == b.shape[-1] == 1 and a.dtype.itemsize == 2:
        # CuPy multiplies a row and a column element by element and adds by CUB, both in half precision
        return tiled(a, b)
    if a.ndim == 2 or not _is_split(a):
        return cupy().matmul(a, b)
    c = empty((*a.shape[:-1], b.shape[-1]), a.dtype)
    for left, right, out in zip(a, b, c, strict=True):
        cupy().matmul(left, right, out=out)
    return c


def _is_split(a: Array) -> bool:
    """Return whether a stack is multiplied matrix by matrix.

    CuPy's product of stacks refuses bfloat16, widens float16, ignores TF32, and copies matrices that are transposed in
    memory. Many small matrices in full precision are quicker in one call.
    """
    single = a.shape[0] == 1
    half = dtype_name(a.dtype) in ("float16", "bfloat16")
    return bool(single or half or (dtype_name(a.dtype) == "float32" and get_numerics().precision == "tf32"))


def tiled(a: Array, b: Array) -> Array:
    """``a @ b`` by a kernel that may be captured."""
    (left, *of_a), (right, *of_b) = _laid(a), _laid(b)
    c = empty((*a.shape[:-1], b.shape[-1]), a.dtype)
    m, n = c.shape[-2:]
    k, matrices = a.shape[-1], 1 if c.ndim == 2 else c.shape[0]
    tiles = -(-m // TILE) * -(-n // TILE)
    depth = _depth(k, tiles * matrices)
    parts = -(-k // depth)
    sums = empty((matrices, parts, m, n), computing_dtype(a.dtype)) if parts > 1 else 0
    stack = struct("M N K a a_row a_column b b_row b_column parts depth", m, n, k, *of_a, *of_b, parts, depth)
    largest = max(a.size, b.size, c.size * parts)
    args = (left, right, c, sums, stack)
    launch("products", "matmul", dtype_name(a.dtype), (tiles, matrices * parts), (SIDE, SIDE), args, largest)
    if parts > 1:
        launch_elementwise("products", "add_parts", dtype_name(a.dtype), c.size, sums, c, parts, m * n, largest=largest)
    return c


def _depth(k: int, blocks: int) -> int:
    """Return the part of K for one block: all, except in products with few blocks (split K)."""
    parts = min(-(-BLOCKS // blocks), -(-k // DEPTH))
    # in whole steps of the kernel
    return -(-k // (parts * STEP)) * STEP


def _laid(a: Array) -> tuple[Array, int, int, int]:
    """A contiguous array, with the strides in it of the matrices, rows and columns of `a`."""
    rows, columns = a.shape[-2:]
    turned = a.transpose(*range(a.ndim - 2), a.ndim - 1, a.ndim - 2)
    if turned.flags.c_contiguous and not a.flags.c_contiguous:
        return turned, rows * columns, 1, rows
    return contiguous(a), rows * columns, columns, 1


@functools.lru_cache(maxsize=1)
def _set_precision(precision: str) -> None:
    """Only of a change is CuPy told: it keeps the setting for the whole process."""
    try:
        routines = submodule("_core._routines_linalg")
        kind = {"highest": routines.COMPUTE_TYPE_FP32, "tf32": routines.COMPUTE_TYPE_TF32}[precision]
        cupy()._core.set_compute_type(cupy().float32, kind)
    except (ImportError, AttributeError) as error:
        raise BackendError(
            f"this CuPy has no way to set the precision {precision!r} of matrix products ({error}); install CuPy 14"
        ) from error
