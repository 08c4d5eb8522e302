"""Contiguous arrays as one axis, whatever the order of their axes in memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.partition import pieces
from xpdl.backends.cpu.tuning import TUNING

# Dtypes of compiled functions: Numba refuses half precision, and floats of the other byte order.
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def read_only(a: NDArray) -> NDArray:
    """A contiguous view to read from: functions are compiled for these alone, whether or not `a` can be written to."""
    view = np.ascontiguousarray(a).view()
    view.flags.writeable = False
    return view


def apply_flat(call: Callable[..., Any], *arrays: NDArray) -> bool:
    """Apply `call` to equal pieces of contiguous arrays of one shape and order of axes; False if they are not."""
    first = arrays[0]
    if first.dtype.kind != "f" or any(not isinstance(a, np.ndarray) or a.shape != first.shape for a in arrays):
        return False
    steps = [tuple(s // a.itemsize for s in a.strides) for a in arrays]
    # the last one was just made, contiguous and in the order of another
    if any(step != steps[-1] for step in steps):
        return False
    # subclasses have arithmetic of their own: a flat np.matrix has two axes
    lines = [np.asarray(a).ravel(order="K") for a in arrays]
    for line in lines[:-1]:
        # compiled once for arrays that may be written to and those that may not
        line.flags.writeable = False

    def task(part: slice) -> None:
        call(*(line[part] for line in lines))

    if first.size < 2 * TUNING.elementwise_task:
        task(slice(0, first.size))
    else:
        thread_pool.run([functools.partial(task, part) for part in pieces(first.size, TUNING.elementwise_task)])
    return True
