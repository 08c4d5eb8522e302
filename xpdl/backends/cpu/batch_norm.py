"""Batch normalisation of images, some channels at a time: a channel's values stay in the cache from pass to pass.

Images are contiguous (outer, C, inner) here: (N, C, H * W) as users have them, (H, C, W * N) with images innermost. The
functions that work on a few channels, NumPy's or compiled ones, are arguments.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu import buffer_pool, thread_pool
from xpdl.backends.cpu.contiguous import FLOATS, read_only
from xpdl.backends.cpu.partition import cut, split
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.registry import DECLINE

Work = Callable[..., None]


def forward(
    work: Work, x: NDArray, gamma: NDArray, beta: NDArray, eps: float, relu: bool, residual: NDArray | None
) -> tuple[NDArray, NDArray, NDArray]:
    """The normalised images, mean and variance; `DECLINE` for other dtypes and orders of memory."""
    lines = _lines(x)
    if lines is None or any(a is not None and a.dtype != x.dtype for a in (gamma, beta, residual)):
        return DECLINE
    y = buffer_pool.empty_like(x)
    mean, var = (np.empty(x.shape[1], x.dtype) for _ in range(2))
    # without a residual another array stands for it, and is not read
    added = lines if residual is None else _lines_as(residual, x)
    given = (*map(read_only, (lines, gamma, beta)), float(eps), relu, read_only(added), residual is not None)
    into = (_lines(y), mean, var)
    thread_pool.run([functools.partial(work, *given, *part, *into) for part in _parts(lines)])
    return y, mean, var


def backward(
    work: Work,
    dy: NDArray,
    x: NDArray,
    gamma: NDArray,
    mean: NDArray,
    var: NDArray,
    eps: float,
    y: NDArray | None,
) -> tuple[NDArray, NDArray, NDArray]:
    """The gradients; `y` is the output of the relu, if there was one."""
    lines = _lines(x)
    if lines is None or any(a is not None and a.dtype != x.dtype for a in (dy, gamma, mean, var, y)):
        return DECLINE
    dx = buffer_pool.empty_like(x)
    dgamma, dbeta = (np.empty(x.shape[1], x.dtype) for _ in range(2))
    dy_lines = _lines_as(dy, x)
    # as above, without a relu
    y_lines = dy_lines if y is None else _lines_as(y, x)
    given = (*map(read_only, (dy_lines, lines, y_lines, gamma, mean, var)), float(eps), y is not None)
    into = (_lines(dx), dgamma, dbeta)
    thread_pool.run([functools.partial(work, *given, *part, *into) for part in _parts(lines)])
    return dx, dgamma, dbeta


def normalize(
    work: Work,
    x: NDArray,
    gamma: NDArray,
    beta: NDArray,
    mean: NDArray,
    var: NDArray,
    eps: float,
    relu: bool,
    residual: NDArray | None,
) -> NDArray:
    """The images normalised by given statistics."""
    lines = _lines(x)
    if lines is None or any(a is not None and a.dtype != x.dtype for a in (gamma, beta, mean, var, residual)):
        return DECLINE
    y = buffer_pool.empty_like(x)
    scale = gamma / np.sqrt(var + x.dtype.type(eps))
    added = lines if residual is None else _lines_as(residual, x)
    given = (*map(read_only, (lines, mean, scale, beta)), relu, read_only(added), residual is not None)
    into = _lines(y)
    # nothing is summed: any contiguous block will do
    outer, channels, inner = lines.shape
    rows = cut(outer, max(1, TUNING.batch_norm_cached // (channels * inner)))
    blocks = itertools.product(rows, cut(channels, max(1, min(channels, TUNING.batch_norm_cached // inner))))
    thread_pool.run([functools.partial(work, *given, a.start, a.stop, b.start, b.stop, into) for a, b in blocks])
    return y


def _lines(x: NDArray) -> Any:
    """Images as a view (outer, C, inner) contiguous in either order of memory; None of others."""
    if x.ndim != 4 or x.dtype not in FLOATS or not x.size:
        return None
    n, c, h, w = x.shape
    if x.flags.c_contiguous:
        return x.reshape(n, c, h * w)
    inner = x.transpose(2, 1, 3, 0)
    return inner.reshape(h, c, w * n) if inner.flags.c_contiguous else None


def _lines_as(a: NDArray, x: NDArray) -> Any:
    """The lines of `a`, in the order of memory of `x`."""
    lines = _lines(a) if a.flags.c_contiguous == x.flags.c_contiguous else None
    if lines is None:
        ordered = buffer_pool.empty_like(x)
        ordered[...] = a
        lines = _lines(ordered)
    return lines


def _parts(lines: NDArray) -> list[tuple[int, int]]:
    """The channels of each task, the first of them and the end."""
    channels = lines.shape[1]
    parts = split(channels, max(1, min(channels, lines.size // TUNING.batch_norm_task)))
    return [(part.start, part.stop) for part in parts]
