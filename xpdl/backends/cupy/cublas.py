"""Matrix products by the cuBLAS that CuPy has loaded, called by ctypes, so that they may be recorded in a CUDA graph.

CuPy's own call of cuBLAS raises while a stream is captured. Of one process, captured and uncaptured steps go this way alike:
equal handles and workspaces choose equal algorithms, and so give equal bits.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import math
import threading
from typing import Any, NamedTuple

from xpdl.backends.cupy.launch import contiguous, cupy, dtype_name, empty
from xpdl.backends.namespaces import Array
from xpdl.errors import BackendError

# Numbers of cuBLAS's and CUDA's headers.
_AS_IT_IS, _TRANSPOSED = 0, 1
_DEFAULT_ALGORITHM = -1
# Sums of half precision stay float32 where K is cut into parts.
_NO_REDUCED_SUMS = 16
_TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
_IN_32_BITS, _IN_TF32, _IN_64_BITS = 68, 77, 70
_STATUSES = {
    1: "NOT_INITIALIZED",
    3: "ALLOC_FAILED",
    7: "INVALID_VALUE",
    8: "ARCH_MISMATCH",
    11: "MAPPING_ERROR",
    13: "EXECUTION_FAILED",
    14: "INTERNAL_ERROR",
    15: "NOT_SUPPORTED",
    16: "LICENSE_ERROR",
}
_CURES = {
    3: "the device has too little memory left: take smaller batches",
    8: "this GPU has no products of this dtype: take float32 or float16",
    15: "this GPU has no products of this dtype: take float32 or float16",
}

# Advised by cuBLAS's documentation, for Hopper and what came after, and for older GPUs.
_WORKSPACE_BYTES = {True: 32 << 20, False: 4 << 20}
_HOPPER = 90
_ALIGNMENT = 256
# Sizes and steps are ints.
_MOST = 2**31 - 1

_INT, _POINTER, _WIDE = ctypes.c_int, ctypes.c_void_p, ctypes.c_longlong
_SIZES = [_INT, _INT, _INT, _INT, _INT]
_FUNCTIONS = {
    "cublasCreate_v2": [ctypes.POINTER(_POINTER)],
    "cublasSetMathMode": [_POINTER, _INT],
    "cublasSetStream_v2": [_POINTER, _POINTER],
    "cublasSetWorkspace_v2": [_POINTER, _POINTER, ctypes.c_size_t],
    "cublasGemmEx": [
        _POINTER, *_SIZES, _POINTER, *[_POINTER, _INT, _INT] * 2, _POINTER, _POINTER, _INT, _INT, _INT, _INT
    ],
    "cublasGemmStridedBatchedEx": [
        _POINTER, *_SIZES, _POINTER, *[_POINTER, _INT, _INT, _WIDE] * 2, _POINTER, _POINTER, _INT, _INT, _WIDE,
        _INT, _INT, _INT
    ],
}  # fmt: skip


@functools.cache
def problem() -> str | None:
    """Return None where cuBLAS can be called, else what is missing."""
    try:
        _library()
    except (ImportError, OSError, AttributeError) as error:
        return f"cuBLAS is not called directly ({error}); products of captured steps are made by a kernel of xpdl"
    return None


def matmul(a: Array, b: Array, precision: str) -> Array:
    """Compute ``a @ b`` of matrices or stacks of them, in the dtype of `a`, with sums in float32 or float64.

    Parameters
    ----------
    a, b : CuPy arrays (M, K) and (K, N), or (S, M, K) and (S, K, N)
        Of one floating dtype, in any memory layout; those with one axis of the matrices gapless are not copied.
    precision : {"highest", "tf32"}
        Of factors in float32.

    Raises
    ------
    BackendError
        If cuBLAS refuses.
    """
    product = _product(a.shape, a.strides, b.shape, b.strides, dtype_name(a.dtype), precision)
    if product is None:
        a, b = (x if _layout(x.shape, x.strides, x.itemsize) else contiguous(x) for x in (a, b))
        product = _product(a.shape, a.strides, b.shape, b.strides, dtype_name(a.dtype), precision)
        assert product is not None  # contiguous arrays always are
    c = empty(product.shape, a.dtype)
    status = getattr(_library(), product.function)(
        _handle().pointer,
        *product.sizes,
        b.data.ptr,
        *product.right,
        a.data.ptr,
        *product.left,
        c.data.ptr,
        *product.out,
    )
    if status:
        _check(product.function, status, f"of {dtype_name(a.dtype)} {tuple(a.shape)} @ {tuple(b.shape)}")
    return c


@functools.lru_cache(maxsize=4096)
def fits(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Return whether matrices, or stacks of them, of these shapes have sizes and steps that are small enough for cuBLAS."""
    return all(math.prod(shape[-2:]) <= _MOST for shape in (a, b))


def bind() -> Any:
    """Give this thread's handle the current stream and fresh workspace, and return that memory; None without cuBLAS.

    A step that is recorded calls it before, with the allocator of its graph, and keeps the memory as long as the graph.
    """
    if problem() is not None:
        return None
    handle = _unbound()
    handle.bind(_current_stream())
    return handle.workspace


def unbind() -> None:
    """Take stream and workspace from this thread's handle, which gets new ones with its next product."""
    handle = _local.handles.get(_current_device())
    if handle is not None:
        handle.stream = handle.workspace = None


class _Product(NamedTuple):
    """A call of cuBLAS but for the handle and the addresses: what stands between them."""

    shape: tuple[int, ...]
    function: str
    sizes: tuple[Any, ...]
    right: tuple[Any, ...]
    left: tuple[Any, ...]
    out: tuple[Any, ...]


class _Layout(NamedTuple):
    """A matrix, or a stack of them, as cuBLAS takes it."""

    turned: int  # row-major, where cuBLAS is column-major
    step: int  # values from one row, or column, to the next
    between: int  # stride between matrices


@functools.lru_cache(maxsize=4096)
def _product(
    a_shape: tuple[int, ...],
    a_strides: tuple[int, ...],
    b_shape: tuple[int, ...],
    b_strides: tuple[int, ...],
    dtype: str,
    precision: str,
) -> _Product | None:
    """The call for arrays of these shapes and strides; None where one of them has to be copied."""
    double, tf32 = dtype == "float64", dtype == "float32" and precision == "tf32"
    itemsize = {"float64": 8, "float32": 4}.get(dtype, 2)
    left, right = _layout(a_shape, a_strides, itemsize), _layout(b_shape, b_strides, itemsize)
    if left is None or right is None:
        return None
    computed = _IN_64_BITS if double else _IN_TF32 if tf32 else _IN_32_BITS
    one, zero = _FACTORS[double]
    *stack, m, k = a_shape
    n, kind = b_shape[-1], _TYPES[dtype]
    count = stack[0] if stack else 1
    # Rows here are columns there: of c = a b, cuBLAS computes the transpose, b' a'.
    stacked = count > 1
    return _Product(
        shape=(*stack, m, n),
        function="cublasGemmStridedBatchedEx" if stacked else "cublasGemmEx",
        sizes=(right.turned, left.turned, n, m, k, one),
        right=(kind, right.step, right.between) if stacked else (kind, right.step),
        left=(kind, left.step, left.between, zero) if stacked else (kind, left.step, zero),
        out=(kind, n, *((m * n, count) if stacked else ()), computed, _DEFAULT_ALGORITHM),
    )


def _layout(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> _Layout | None:
    """The layout of an array where it lies, if one of its matrices' axes is contiguous and the other has no overlap."""
    *_, rows, columns = shape
    *stack, down, right = (step // itemsize for step in strides)
    between = stack[0] if stack else 0
    if any(step % itemsize for step in strides) or between < 0:
        return None
    for turned, along, across, length, count in (
        (_AS_IT_IS, right, down, columns, rows),
        (_TRANSPOSED, down, right, rows, columns),
    ):
        if (along == 1 or length == 1) and (across >= length or count == 1):
            # an axis of one entry may have any step
            step = length if count == 1 else across
            return _Layout(turned, step, between) if step <= _MOST else None
    return None


class _Handle:
    """A handle of cuBLAS with the stream and the workspace that it has."""

    def __init__(self, device: int) -> None:
        self.pointer = _POINTER()
        _check("cublasCreate_v2", _library().cublasCreate_v2(ctypes.byref(self.pointer)))
        _check("cublasSetMathMode", _library().cublasSetMathMode(self.pointer, _NO_REDUCED_SUMS))
        capability = int(cupy().cuda.Device(device).compute_capability)
        self.bytes = _WORKSPACE_BYTES[capability >= _HOPPER]
        self.stream: int | None = None
        self.workspace: Any = None

    def bind(self, stream: int) -> None:
        """Set the stream, which takes the workspace away, and fresh workspace of the current allocator."""
        workspace = cupy().cuda.alloc(self.bytes + _ALIGNMENT)
        aligned = -(-workspace.ptr // _ALIGNMENT) * _ALIGNMENT
        _check("cublasSetStream_v2", _library().cublasSetStream_v2(self.pointer, stream))
        _check("cublasSetWorkspace_v2", _library().cublasSetWorkspace_v2(self.pointer, aligned, self.bytes))
        self.stream, self.workspace = stream, workspace


class _Local(threading.local):
    """A handle for each thread and device; as many as threads compute, they stay to the end of the process."""

    def __init__(self) -> None:
        self.handles: dict[int, _Handle] = {}


_local = _Local()
_FACTORS = {
    double: tuple(ctypes.byref(kind(value)) for value in (1.0, 0.0))
    for double, kind in ((False, ctypes.c_float), (True, ctypes.c_double))
}


def _handle() -> _Handle:
    """This thread's handle for the current device, with the current stream."""
    handle, stream = _unbound(), _current_stream()
    if handle.stream != stream:
        handle.bind(stream)
    return handle


def _unbound() -> _Handle:
    """This thread's handle for the current device, with whatever stream it has."""
    device = _current_device()
    handle = _local.handles.get(device)
    if handle is None:
        handle = _local.handles[device] = _Handle(device)
    return handle


def _current_device() -> int:
    return int(cupy().cuda.device.get_device_id())


def _current_stream() -> int:
    return int(cupy().cuda.get_current_stream().ptr)


@functools.cache
def _library() -> Any:
    """The library that CuPy's module for cuBLAS is linked to: names that the module lacks are looked up there."""
    module = importlib.import_module("cupy_backends.cuda.libs.cublas")
    path = getattr(module, "__file__", None)
    if path is None:
        raise ImportError("CuPy's module for it is linked to no library")
    library = ctypes.CDLL(path)
    for name, types in _FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, _INT
    return library


def _check(function: str, status: int, shown: str = "") -> None:
    if status:
        name = _STATUSES.get(status, "an unknown status")
        cure = _CURES.get(status, "library and driver may not fit each other; `xpdl info` names their versions")
        raise BackendError(f"{function} {shown}".rstrip() + f": cuBLAS says {name} ({status}); {cure}")
