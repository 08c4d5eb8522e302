"""Arrays joined by one launch, in steps that are recorded, too.

CuPy copies each of up to eight arrays by a launch. For more of them it sends a table of addresses to the device, which a
stream refuses while it is captured.
"""

from __future__ import annotations

import math

import numpy as np

from xpdl.backends.cupy import capture
from xpdl.backends.cupy.launch import by_value, dtype_name, empty, launch_elementwise, same_device
from xpdl.backends.cupy.namespace import joins
from xpdl.backends.cupy.sources import TYPES
from xpdl.backends.namespaces import Array

# As in cuda/layout.cu.
PARTS = 64
# The instance that moves values of so many bytes, whatever they are.
_MOVES = {2: "float16", 4: "float32", 8: "float64"}


@joins
def joined(arrays: list[Array], axis: int) -> Array | None:
    """Join arrays that differ in the size along `axis` alone; None where CuPy is to do it, as it can."""
    first = arrays[0]
    if not _are_alike(arrays, axis):
        return None
    total = sum(a.shape[axis] for a in arrays)
    y = empty((*first.shape[:axis], total, *first.shape[axis + 1 :]), first.dtype)
    if _serves(arrays, y):
        _launch([a for a in arrays if a.size], axis, y)
    elif capture.is_recording():
        _assign(arrays, axis, y)
    else:
        return None
    return y


def _are_alike(arrays: list[Array], axis: int) -> bool:
    """Return whether arrays of one device and dtype have one shape but for the axis."""
    first = arrays[0]
    if len(arrays) < 2 or not same_device(first, *arrays) or not 0 <= axis < first.ndim:
        return False
    rest = first.shape[:axis], first.shape[axis + 1 :]
    return all(
        a.dtype == first.dtype and a.ndim == first.ndim and (a.shape[:axis], a.shape[axis + 1 :]) == rest
        for a in arrays
    )


def _serves(arrays: list[Array], y: Array) -> bool:
    fits = len(arrays) <= PARTS and y.itemsize in _MOVES and y.size
    return bool(fits) and all(a.flags.c_contiguous for a in arrays)


def _launch(arrays: list[Array], axis: int, y: Array) -> None:
    table, end = np.zeros((2, PARTS), np.int64), 0
    inner = math.prod(y.shape[axis + 1 :])
    for place, a in enumerate(arrays):
        end += a.shape[axis] * inner
        table[:, place] = a.data.ptr, end
    name = dtype_name(y.dtype)
    if name not in TYPES:
        name = _MOVES[y.itemsize]
        y = y.view(name)
    launch_elementwise("layout", "join", name, y.size, y, by_value(table.reshape(-1)), len(arrays), end)


def _assign(arrays: list[Array], axis: int, y: Array) -> None:
    """Copy each to its place."""
    start = 0
    for a in arrays:
        y[(slice(None),) * axis + (slice(start, start + a.shape[axis]),)] = a
        start += a.shape[axis]
