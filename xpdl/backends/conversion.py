"""Copies of arrays from any library to NumPy, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.namespaces import (
    Array,
    DType,
    Namespace,
    array_namespace,
    dtype_name,
    is_array,
    library_name,
    on_device_of,
)


def to_numpy(x: Array) -> np.ndarray[Any, Any]:
    """A fresh NumPy copy of any library's array, from any device; NumPy has no bfloat16 and gets float32 for it."""
    if isinstance(x, (np.ndarray, np.generic)):
        return np.array(x)
    if is_array(x):
        xp = array_namespace(x)
        if dtype_name(x.dtype) == "bfloat16":
            with on_device_of(x):
                x = xp.astype(x, xp.float32)
        library = library_name(xp)
        if library == "torch":
            return np.array(x.numpy(force=True))
        if library == "cupy":
            return np.asarray(x.get())
        if library == "array_api_strict":
            return np.array(xp.asarray(x, device=xp.Device("CPU_DEVICE")))
        if library == "ndonnx":
            return np.array(x.unwrap_numpy())
    elif hasattr(x, "__dlpack__") and not hasattr(x, "__array__"):
        return np.array(np.from_dlpack(x))
    return np.array(x)


def from_numpy(x: np.ndarray[Any, Any], xp: Namespace, device: Any, dtype: DType | None = None) -> Array:
    """A copy of the host array `x` in another library; it never shares memory with `x`."""
    kwargs: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    # torch takes neither foreign byte order nor negative strides
    x = x.astype(x.dtype.newbyteorder("="), order="C", copy=False)
    if library_name(xp) == "ndonnx":  # takes neither device nor copy
        return xp.asarray(x, **kwargs)
    if x.ndim == 0:  # torch refuses copy=True for a 0-d array bound for another device
        return xp.asarray(np.array(x), device=device, **kwargs)
    return xp.asarray(x, device=device, copy=True, **kwargs)
