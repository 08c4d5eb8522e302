"""Batch normalisation of rows (N, D), where kernels are compiled: NumPy's functions would be those of the generic op.

In float32, forward and back: 72 -> 36 us for (100, 100), 5.0 -> 1.7 ms for (1000, 1000) on two cores of a Xeon.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from xpdl.backends.cpu import buffer_pool, thread_pool
from xpdl.backends.cpu.contiguous import FLOATS, read_only
from xpdl.backends.cpu.partition import cut
from xpdl.backends.numba import loading
from xpdl.backends.registry import DECLINE

Host = np.ndarray[Any, Any]

# Elements of a task.
_TASK_SIZE = 1 << 17


def batch_normalization(x: Host, gamma: Host, beta: Host, eps: float, relu: bool) -> tuple[Host, Host, Host]:
    """As `xpdl.ops.normalization.batch_normalization`."""
    code = _code(x, gamma, beta)
    if code is None:
        return DECLINE
    y = buffer_pool.empty(x.shape, x.dtype)
    mean, var = (np.empty(x.shape[1], x.dtype) for _ in range(2))
    given = (*map(read_only, (x, gamma, beta)), float(eps), relu)
    thread_pool.run([functools.partial(code.forward, *given, *part, y, mean, var) for part in _features(x)])
    return y, mean, var


def batch_normalization_backward(
    dy: Host, x: Host, gamma: Host, mean: Host, var: Host, eps: float, y: Host | None
) -> tuple[Host, Host, Host]:
    """As `xpdl.ops.normalization.batch_normalization_backward`."""
    code = _code(x, dy, gamma, mean, var, *(() if y is None else (y,)))
    if code is None:
        return DECLINE
    dx = buffer_pool.empty(x.shape, x.dtype)
    dgamma, dbeta = (np.empty(x.shape[1], x.dtype) for _ in range(2))
    # without a relu another array stands for its output, and is not read
    given = (*map(read_only, (dy, x, dy if y is None else y, gamma, mean, var)), float(eps), y is not None)
    thread_pool.run([functools.partial(code.backward, *given, *part, dx, dgamma, dbeta) for part in _features(x)])
    return dx, dgamma, dbeta


def normalize(x: Host, gamma: Host, beta: Host, mean: Host, var: Host, eps: float, relu: bool) -> Host:
    """As `xpdl.ops.normalization.normalize`."""
    code = _code(x, gamma, beta, mean, var)
    if code is None:
        return DECLINE
    y = buffer_pool.empty(x.shape, x.dtype)
    scale = gamma / np.sqrt(var + x.dtype.type(eps))
    given = (*map(read_only, (x, mean, scale, beta)), relu)
    parts = cut(x.shape[0], max(1, _TASK_SIZE // x.shape[1]))
    thread_pool.run([functools.partial(code.normalize, *given, part.start, part.stop, y) for part in parts])
    return y


def _code(x: Host, *others: Host) -> Any:
    """The compiled functions, where they serve these arrays."""
    if x.dtype not in FLOATS or not x.size or any(a.dtype != x.dtype for a in others):
        return None
    return loading.load("xpdl.backends.numba.batch_norm_2d")


def _features(x: Host) -> list[tuple[int, int]]:
    """The features of each task, the first of them and the end."""
    return [(part.start, part.stop) for part in cut(x.shape[1], max(1, _TASK_SIZE // x.shape[0]))]
