"""Stand for cuBLAS: NumPy multiplies matrices, which are stored by columns; half precision accumulates in float32.

CuPy calls the functions of its module for cuBLAS, and xpdl calls libcublas: functions ``direct_*``, by src/cublas.cpp.
"""

from __future__ import annotations

import ctypes
import functools
import types
from typing import Any

import numpy as np

from hostcuda import build, core
from hostcuda.arrays import contiguous, strided

CUBLAS_OP_N, CUBLAS_OP_T, CUBLAS_OP_C = 0, 1, 2
CUBLAS_POINTER_MODE_HOST, CUBLAS_POINTER_MODE_DEVICE = 0, 1
CUBLAS_SIDE_LEFT, CUBLAS_SIDE_RIGHT = 0, 1
CUBLAS_FILL_MODE_LOWER, CUBLAS_FILL_MODE_UPPER = 0, 1
CUBLAS_DIAG_NON_UNIT, CUBLAS_DIAG_UNIT = 0, 1
CUBLAS_GEMM_DEFAULT = CUBLAS_GEMM_DFALT = -1
CUBLAS_GEMM_DEFAULT_TENSOR_OP = CUBLAS_GEMM_DFALT_TENSOR_OP = 99
CUBLAS_DEFAULT_MATH, CUBLAS_TENSOR_OP_MATH = 0, 1
CUBLAS_COMPUTE_16F, CUBLAS_COMPUTE_16F_PEDANTIC = 64, 65
CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_PEDANTIC = 68, 69
CUBLAS_COMPUTE_32F_FAST_16F, CUBLAS_COMPUTE_32F_FAST_16BF, CUBLAS_COMPUTE_32F_FAST_TF32 = 74, 75, 77
CUBLAS_COMPUTE_64F, CUBLAS_COMPUTE_64F_PEDANTIC = 70, 71
CUBLAS_COMPUTE_32I, CUBLAS_COMPUTE_32I_PEDANTIC = 72, 73

# cudaDataType
_REAL32, _REAL64, _REAL16, _COMPLEX32, _COMPLEX64, _BRAIN16 = 0, 1, 2, 4, 5, 14

#: ("gemm", (batches, m, n, k)) of every product, for tests
calls: list[tuple[str, tuple[int, ...]]] = []

_modes: dict[int, int] = {}


class CUBLASError(RuntimeError):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"CUBLAS_STATUS {status}")


@functools.cache
def _dtype(kind: int) -> np.dtype[Any]:
    if kind == _BRAIN16:
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype({_REAL32: "f", _REAL64: "d", _REAL16: "e", _COMPLEX32: "F", _COMPLEX64: "D"}[kind])


def _scalar(handle: int, address: int, dtype: Any) -> Any:
    """A function that reads alpha or beta: values on the host are read now, those on the device when the work runs."""
    value = contiguous(address, dtype, (1,))
    if _modes[handle] == CUBLAS_POINTER_MODE_DEVICE:
        return lambda: value[0]
    read = value[0]
    return lambda: read


def _tf32(a: Any) -> Any:
    """Round float32 to the 10 explicit mantissa bits that tensor cores take."""
    bits = a.view(np.uint32)
    return ((bits + np.uint32(0xFFF) + ((bits >> 13) & 1)) & ~np.uint32(0x1FFF)).view(np.float32)


def _operand(
    address: int, kind: int, op: int, rows: int, columns: int, ld: int, compute: Any, tf32: bool, **batch: Any
) -> Any:
    """op(matrix) of shape (batches, rows, columns), in the accumulator's dtype."""
    stored = (columns, rows) if op else (rows, columns)
    a = strided(address, _dtype(kind), (batch["count"], *stored), (batch["stride"], 1, ld)).astype(compute)
    if tf32:
        a = _tf32(np.ascontiguousarray(a))
    a = a.transpose(0, 2, 1) if op else a
    return a.conj() if op == CUBLAS_OP_C else a


def _check_capture() -> None:
    from cupy_backends.cuda.api import runtime

    if runtime.streamIsCapturing(core.current_stream()):
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")


def gemmStridedBatchedEx(
    handle: int, opa: int, opb: int, m: int, n: int, k: int, alpha: int,
    a: int, kind_a: int, lda: int, stride_a: int, b: int, kind_b: int, ldb: int, stride_b: int, beta: int,
    c: int, kind_c: int, ldc: int, stride_c: int, count: int, compute: int, algo: int,
) -> None:  # fmt: skip
    _check_capture()
    _multiply(
        None, handle, opa, opb, m, n, k, alpha, a, kind_a, lda, stride_a, b, kind_b, ldb, stride_b, beta,
        c, kind_c, ldc, stride_c, count, compute,
    )  # fmt: skip


def _multiply(
    stream: int | None, handle: int, opa: int, opb: int, m: int, n: int, k: int, alpha: int,
    a: int, kind_a: int, lda: int, stride_a: int, b: int, kind_b: int, ldb: int, stride_b: int, beta: int,
    c: int, kind_c: int, ldc: int, stride_c: int, count: int, compute: int, workspace: Any = None,
) -> None:  # fmt: skip
    """Enqueue ``c = alpha op(a) op(b) + beta c`` on a stream, by default the current one.

    Workspace is written to. Without it, of size 0, sums go in another order; None is CuPy's own.
    """
    calls.append(("gemm", (count, m, n, k)))
    if lda < max(1, k if opa else m) or ldb < max(1, n if opb else k) or ldc < max(1, m):
        raise CUBLASError(7)
    double = kind_c in (_REAL64, _COMPLEX64)
    dtype = np.dtype("FD"[double] if kind_c in (_COMPLEX32, _COMPLEX64) else "fd"[double])
    tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32 and dtype.char == "f"
    get_alpha, get_beta = _scalar(handle, alpha, dtype), _scalar(handle, beta, dtype)

    def work() -> None:
        with core.open_memory(), np.errstate(all="ignore"):
            left = _operand(a, kind_a, opa, m, k, lda, dtype, tf32, count=count, stride=stride_a)
            right = _operand(b, kind_b, opb, k, n, ldb, dtype, tf32, count=count, stride=stride_b)
            if workspace is not None:
                workspace[...] = 0xFF
            step = 1 if workspace is None or workspace.size else -1
            product = get_alpha() * np.matmul(left[..., ::step], right[:, ::step])
            out = strided(c, _dtype(kind_c), product.shape, (stride_c, 1, ldc))
            factor = get_beta()
            # C is not read with beta 0: it may be uninitialized
            if factor != 0:
                product += factor * out.astype(dtype)
            out[...] = product.astype(out.dtype, copy=False)

    core.enqueue(work, stream)


def gemmEx(
    handle: int, opa: int, opb: int, m: int, n: int, k: int, alpha: int, a: int, kind_a: int, lda: int,
    b: int, kind_b: int, ldb: int, beta: int, c: int, kind_c: int, ldc: int, compute: int, algo: int,
) -> None:  # fmt: skip
    gemmStridedBatchedEx(
        handle,
        opa,
        opb,
        m,
        n,
        k,
        alpha,
        a,
        kind_a,
        lda,
        0,
        b,
        kind_b,
        ldb,
        0,
        beta,
        c,
        kind_c,
        ldc,
        0,
        1,
        compute,
        algo,
    )


def sgemmEx(
    handle: int, opa: int, opb: int, m: int, n: int, k: int, alpha: int, a: int, kind_a: int, lda: int,
    b: int, kind_b: int, ldb: int, beta: int, c: int, kind_c: int, ldc: int,
) -> None:  # fmt: skip
    gemmEx(
        handle, opa, opb, m, n, k, alpha, a, kind_a, lda, b, kind_b, ldb, beta, c, kind_c, ldc, CUBLAS_COMPUTE_32F, -1
    )


def _gemm(
    kind: int, handle: int, opa: int, opb: int, m: int, n: int, k: int, alpha: int,
    a: int, lda: int, b: int, ldb: int, beta: int, c: int, ldc: int,
) -> None:  # fmt: skip
    gemmEx(handle, opa, opb, m, n, k, alpha, a, kind, lda, b, kind, ldb, beta, c, kind, ldc, CUBLAS_COMPUTE_32F, -1)


def _batched(
    kind: int, handle: int, opa: int, opb: int, m: int, n: int, k: int, alpha: int,
    a: int, lda: int, b: int, ldb: int, beta: int, c: int, ldc: int, count: int,
) -> None:  # fmt: skip
    # the tables of addresses are in device memory, written by work before this
    core.wait()
    with core.open_memory():
        tables = [contiguous(table, np.dtype(np.uintp), (count,)).tolist() for table in (a, b, c)]
    for x, y, z in zip(*tables, strict=True):
        _gemm(kind, handle, opa, opb, m, n, k, alpha, x, lda, y, ldb, beta, z, ldc)


def _geam(
    kind: int, handle: int, opa: int, opb: int, m: int, n: int, alpha: int,
    a: int, lda: int, beta: int, b: int, ldb: int, c: int, ldc: int,
) -> None:  # fmt: skip
    _check_capture()
    dtype = _dtype(kind)
    terms = ((_scalar(handle, alpha, dtype), a, opa, lda), (_scalar(handle, beta, dtype), b, opb, ldb))

    def work() -> None:
        total = np.zeros((1, m, n), dtype)
        with core.open_memory(), np.errstate(all="ignore"):
            for get_factor, address, op, ld in terms:
                if (factor := get_factor()) != 0:
                    total += factor * _operand(address, kind, op, m, n, ld, dtype, False, count=1, stride=0)
            strided(c, dtype, total.shape, (0, 1, ldc))[...] = total

    core.enqueue(work)


for _letter, _kind in {"s": _REAL32, "d": _REAL64, "c": _COMPLEX32, "z": _COMPLEX64}.items():
    globals()[f"{_letter}gemm"] = functools.partial(_gemm, _kind)
    globals()[f"{_letter}gemmBatched"] = functools.partial(_batched, _kind)
    globals()[f"{_letter}geam"] = functools.partial(_geam, _kind)


def create() -> int:
    handle = 0x2000 + 16 * len(_modes)
    _modes[handle] = 0
    return handle


def destroy(handle: int) -> None:
    pass


def getVersion(handle: int) -> int:
    return 120900


def getPointerMode(handle: int) -> int:
    return _modes[handle]


def setPointerMode(handle: int, mode: int) -> None:
    _modes[handle] = mode


def setMathMode(handle: int, mode: int) -> None:
    pass


def getMathMode(handle: int) -> int:
    return 0


def setStream(handle: int, stream: int) -> None:
    pass


def getStream(handle: int) -> int:
    return core.current_stream()


# ------------------------------------------------------------------------------------------------ libcublas by ctypes

_streams: dict[int, int] = {}
_workspaces: dict[int, Any] = {}
_NO_WORKSPACE = np.empty(0, np.uint8)
_INVALID_VALUE = 7
# Bytes at the start of a workspace that products write to.
_WRITTEN = 4096


def direct_create(result: int) -> None:
    handle = create()
    ctypes.c_ssize_t.from_address(result).value = handle
    _streams[handle] = 0


def direct_set_math_mode(handle: int, mode: int) -> None:
    pass


def direct_set_stream(handle: int, stream: int) -> None:
    """Take the workspace away, as cuBLAS does."""
    _streams[handle] = stream
    _workspaces.pop(handle, None)


def direct_set_workspace(handle: int, workspace: int, size: int) -> int:
    """Refuse memory that is not of a device, or not aligned to 256 bytes."""
    from cupy_backends.cuda.api import runtime

    if runtime.pointerGetAttributes(workspace).type != 2 or workspace % 256:
        return _INVALID_VALUE
    _workspaces[handle] = contiguous(workspace, np.dtype(np.uint8), (min(size, _WRITTEN),))
    return 0


def direct_gemm(handle: int, *args: int) -> int:
    try:
        _multiply(_streams[handle], handle, *args[:-1], workspace=_workspaces.get(handle, _NO_WORKSPACE))
    except CUBLASError as error:
        return error.status
    return 0


def module() -> types.ModuleType:
    """The module that CuPy imports as ``cupy_backends.cuda.libs.cublas``."""
    made = types.ModuleType("cupy_backends.cuda.libs.cublas", __doc__)
    # libraries that CuPy's module is linked to are looked up in its file
    made.__file__ = str(build.compiled("cublas.cpp"))
    made.__dict__.update({k: v for k, v in globals().items() if not k.startswith("_")})
    return made
