"""Device memory: free bytes, and advice after an out-of-memory error."""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array, is_floating, is_host
from xpdl.errors import OutOfMemoryError


def free_bytes(backend: Backend) -> int | None:
    """Return how many bytes new arrays of `backend` may take; None for the memory of the host, or if it cannot be asked."""
    if backend.name != "cupy":
        return None
    cupy = _cupy()
    pool = cupy.get_default_memory_pool()
    with backend.device:
        free = int(backend.device.mem_info[0]) + int(pool.free_bytes())
        limit = int(pool.get_limit())
        return min(free, limit - int(pool.used_bytes())) if limit else free


def fits(backend: Backend, x: Array) -> bool:
    """Return whether `x` may stay on the device of `backend`: it is there, or takes at most half of what is free."""
    free = free_bytes(backend)
    if free is None or not is_host(x):
        return True
    itemsize: int = np.dtype(backend.float).itemsize if is_floating(x) else x.dtype.itemsize
    return bool(2 * math.prod(x.shape) * itemsize <= free)


@contextlib.contextmanager
def explain_oom(backend: Backend, rows: int) -> Iterator[None]:
    """Around a step on `rows` rows: when memory runs out, say how much was needed, what is free, and what would fit.

    Raises
    ------
    OutOfMemoryError
        In place of CuPy's own error.
    """
    if backend.name != "cupy":
        yield
        return
    cupy = _cupy()
    pool = cupy.get_default_memory_pool()
    before = pool.used_bytes()
    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError as error:
        # the arrays of the step are still alive: the error holds the frames that hold them
        taken = pool.used_bytes() - before
        free = free_bytes(backend) or 0
        raise OutOfMemoryError(_message(rows, getattr(error, "_size", 0), taken, free)) from error


def _message(rows: int, asked: int, taken: int, free: int) -> str:
    needed = taken + asked
    # in proportion; what the step would have needed later is not known, nor how the free memory lies in pieces
    at_most = min(rows - 1, rows * (taken + free) // max(1, needed))
    said = f"a batch of {rows} needs at least {_megabytes(needed)} for a step: {_megabytes(taken)} taken, "
    said += f"{_megabytes(asked)} more asked for, {_megabytes(free)} free"
    if at_most < 1:
        return f"out of memory on the GPU: {said}; not one row fits: take a smaller network, or free memory"
    return f"out of memory on the GPU: {said}; try a batch size of {at_most} or less"


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _cupy() -> Any:
    return importlib.import_module("xpdl.backends.cupy.launch").cupy()
