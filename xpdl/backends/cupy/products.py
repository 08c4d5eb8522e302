"""Matrix products by cuBLAS, in the precision that is set."""

from __future__ import annotations

import functools

from xpdl.backends.cupy.launch import cupy, named, submodule
from xpdl.backends.namespaces import Array
from xpdl.backends.numerics import get_numerics
from xpdl.errors import BackendError


def matmul(a: Array, b: Array) -> Array:
    """``a @ b``."""
    if named(a.dtype) == "float32":
        _set_precision(get_numerics().precision)
    if a.ndim == 3 and a.shape[0] == 1:
        # matrices that lie transposed in memory go to cuBLAS as they are; in stacks, CuPy copies them first
        return cupy().matmul(a[0], b[0])[None]
    return cupy().matmul(a, b)


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
