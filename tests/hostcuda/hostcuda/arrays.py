"""View device memory as NumPy arrays; it is accessible within `core.open_memory` only."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np


def strided(address: int, dtype: np.dtype[Any], shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    """An array at an address; `strides` count items."""
    if not all(shape):
        return np.empty(shape, dtype)
    size = (sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + 1) * dtype.itemsize
    buffer = (ctypes.c_char * size).from_address(address)
    return np.ndarray(shape, dtype, buffer, strides=tuple(stride * dtype.itemsize for stride in strides))


def contiguous(address: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    """A C-contiguous array at an address."""
    return strided(address, dtype, shape, tuple(math.prod(shape[i + 1 :]) for i in range(len(shape))))
