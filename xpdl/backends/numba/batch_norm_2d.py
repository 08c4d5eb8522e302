"""Batch normalisation of rows (N, D), some features at a time: neighbours in memory are of different features.

All sums are in float64, as rows are added up one by one. In float32, forward and back take 36 us instead of the 72 of the
generic op for (100, 100), and 1.7 ms instead of 5.0 for (1000, 1000) on two cores of a Xeon.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu import buffer_pool, thread_pool
from xpdl.backends.cpu.contiguous import FLOATS, read_only
from xpdl.backends.cpu.partition import cut
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.numba.jit import compiled, inline
from xpdl.backends.numba.row_loops import add, copy
from xpdl.backends.registry import DECLINE


def batch_normalization(
    x: NDArray, gamma: NDArray, beta: NDArray, eps: float, relu: bool
) -> tuple[NDArray, NDArray, NDArray]:
    """As `xpdl.ops.normalization.batch_normalization`."""
    if not _supports(x, gamma, beta):
        return DECLINE
    y = buffer_pool.empty(x.shape, x.dtype)
    mean, var = (np.empty(x.shape[1], x.dtype) for _ in range(2))
    given = (*map(read_only, (x, gamma, beta)), float(eps), relu)
    thread_pool.run([functools.partial(_forward, *given, *part, y, mean, var) for part in _features(x)])
    return y, mean, var


def batch_normalization_backward(
    dy: NDArray, x: NDArray, gamma: NDArray, mean: NDArray, var: NDArray, eps: float, y: NDArray | None
) -> tuple[NDArray, NDArray, NDArray]:
    """As `xpdl.ops.normalization.batch_normalization_backward`."""
    if not _supports(x, dy, gamma, mean, var, *(() if y is None else (y,))):
        return DECLINE
    dx = buffer_pool.empty(x.shape, x.dtype)
    dgamma, dbeta = (np.empty(x.shape[1], x.dtype) for _ in range(2))
    # without a relu another array stands for its output, and is not read
    given = (
        *map(read_only, (dy, x, dy if y is None else y, gamma, mean, var)),
        float(eps),
        y is not None,
    )
    thread_pool.run([functools.partial(_backward, *given, *part, dx, dgamma, dbeta) for part in _features(x)])
    return dx, dgamma, dbeta


def normalize(
    x: NDArray, gamma: NDArray, beta: NDArray, mean: NDArray, var: NDArray, eps: float, relu: bool
) -> NDArray:
    """As `xpdl.ops.normalization.normalize`."""
    if not _supports(x, gamma, beta, mean, var):
        return DECLINE
    y = buffer_pool.empty(x.shape, x.dtype)
    scale = gamma / np.sqrt(var + x.dtype.type(eps))
    given = (*map(read_only, (x, mean, scale, beta)), relu)
    parts = cut(x.shape[0], max(1, TUNING.batch_norm_2d_task // x.shape[1]))
    thread_pool.run([functools.partial(_normalize, *given, part.start, part.stop, y) for part in parts])
    return y


def _supports(x: NDArray, *others: NDArray) -> bool:
    return x.dtype in FLOATS and x.size > 0 and all(a.dtype == x.dtype for a in others)


def _features(x: NDArray) -> list[tuple[int, int]]:
    """The features of each task, the first of them and the end."""
    return [(part.start, part.stop) for part in cut(x.shape[1], max(1, TUNING.batch_norm_2d_task // x.shape[0]))]


@compiled
def _forward(
    x: Any,
    gamma: Any,
    beta: Any,
    eps: Any,
    relu: Any,
    start: Any,
    stop: Any,
    y: Any,
    mean: Any,
    var: Any,
) -> None:
    """Mean and variance of features from `start` to `stop`, and their values normalised."""
    rows = x.shape[0]
    centre, scale = np.zeros(stop - start), np.zeros(stop - start)
    for n in range(rows):
        add(x[n, start:stop], centre)
    _divide(centre, rows)
    for n in range(rows):
        _add_squares(x[n, start:stop], centre, scale)
    _divide(scale, rows)
    for k in range(stop - start):
        mean[start + k], var[start + k] = centre[k], scale[k]
        scale[k] = gamma[start + k] / np.sqrt(scale[k] + eps)
    for n in range(rows):
        _scaled(x[n, start:stop], centre, scale, beta[start:stop], y[n, start:stop])
        if relu:
            _relu(y[n, start:stop])


@compiled
def _normalize(x: Any, mean: Any, scale: Any, beta: Any, relu: Any, start: Any, stop: Any, y: Any) -> None:
    """Values normalised with given statistics, in rows from `start` to `stop`."""
    for n in range(start, stop):
        _scaled(x[n], mean, scale, beta, y[n])
        if relu:
            _relu(y[n])


@compiled
def _backward(
    dy: Any,
    x: Any,
    y: Any,
    gamma: Any,
    mean: Any,
    var: Any,
    eps: Any,
    relu: Any,
    start: Any,
    stop: Any,
    dx: Any,
    dgamma: Any,
    dbeta: Any,
) -> None:
    """Gradients of features from `start` to `stop`."""
    rows = x.shape[0]
    shift, slope, scale = np.zeros(stop - start), np.zeros(stop - start), np.empty(stop - start)
    for n in range(rows):
        if relu:
            _pass(dy[n, start:stop], y[n, start:stop], dx[n, start:stop])
        else:
            copy(dy[n, start:stop], dx[n, start:stop])
        add(dx[n, start:stop], shift)
        _add_products(dx[n, start:stop], x[n, start:stop], mean[start:stop], slope)
    for k in range(stop - start):
        inv_std = 1.0 / np.sqrt(var[start + k] + eps)
        dbeta[start + k], dgamma[start + k] = shift[k], slope[k] * inv_std
        slope[k] *= inv_std * inv_std / rows
        shift[k] /= rows
        scale[k] = gamma[start + k] * inv_std
    for n in range(rows):
        _gradient(x[n, start:stop], mean[start:stop], shift, slope, scale, dx[n, start:stop])


@inline
def _add_squares(x: Any, mean: Any, total: Any) -> None:
    for k in range(len(total)):
        difference = x[k] - mean[k]
        total[k] += difference * difference


@inline
def _add_products(dy: Any, x: Any, mean: Any, total: Any) -> None:
    for k in range(len(total)):
        total[k] += dy[k] * (x[k] - mean[k])


@inline
def _divide(total: Any, by: Any) -> None:
    for k in range(len(total)):
        total[k] /= by


@inline
def _scaled(x: Any, mean: Any, scale: Any, beta: Any, y: Any) -> None:
    for k in range(len(y)):
        y[k] = (x[k] - mean[k]) * scale[k] + beta[k]


@inline
def _relu(y: Any) -> None:
    zero = y.dtype.type(0)
    for k in range(len(y)):
        # NaN stays NaN
        y[k] = y[k] if not y[k] < zero else zero


@inline
def _pass(dy: Any, y: Any, dx: Any) -> None:
    zero = dx.dtype.type(0)
    for k in range(len(dx)):
        dx[k] = dy[k] if y[k] > zero else zero


@inline
def _gradient(x: Any, mean: Any, shift: Any, slope: Any, scale: Any, dx: Any) -> None:
    for k in range(len(dx)):
        dx[k] = (dx[k] - shift[k] - (x[k] - mean[k]) * slope[k]) * scale[k]
