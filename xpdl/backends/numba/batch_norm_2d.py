"""Batch normalisation of rows (N, D), some features at a time: neighbours in memory are of different features.

All sums are in float64, as rows are added up one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.numba.jit import compiled, inlined
from xpdl.backends.numba.row_loops import add, copy


@compiled
def forward(
    x: Any,
    gamma: Any,
    beta: Any,
    eps: Any,
    rectified: Any,
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
        if rectified:
            _rectify(y[n, start:stop])


@compiled
def normalize(x: Any, mean: Any, scale: Any, beta: Any, rectified: Any, start: Any, stop: Any, y: Any) -> None:
    """Values normalised with given statistics, in rows from `start` to `stop`."""
    for n in range(start, stop):
        _scaled(x[n], mean, scale, beta, y[n])
        if rectified:
            _rectify(y[n])


@compiled
def backward(
    dy: Any,
    x: Any,
    y: Any,
    gamma: Any,
    mean: Any,
    var: Any,
    eps: Any,
    rectified: Any,
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
        if rectified:
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


@inlined
def _add_squares(x: Any, mean: Any, total: Any) -> None:
    for k in range(len(total)):
        difference = x[k] - mean[k]
        total[k] += difference * difference


@inlined
def _add_products(dy: Any, x: Any, mean: Any, total: Any) -> None:
    for k in range(len(total)):
        total[k] += dy[k] * (x[k] - mean[k])


@inlined
def _divide(total: Any, by: Any) -> None:
    for k in range(len(total)):
        total[k] /= by


@inlined
def _scaled(x: Any, mean: Any, scale: Any, beta: Any, y: Any) -> None:
    for k in range(len(y)):
        y[k] = (x[k] - mean[k]) * scale[k] + beta[k]


@inlined
def _rectify(y: Any) -> None:
    zero = y.dtype.type(0)
    for k in range(len(y)):
        # NaN stays NaN
        y[k] = y[k] if not y[k] < zero else zero


@inlined
def _pass(dy: Any, y: Any, dx: Any) -> None:
    zero = dx.dtype.type(0)
    for k in range(len(dx)):
        dx[k] = dy[k] if y[k] > zero else zero


@inlined
def _gradient(x: Any, mean: Any, shift: Any, slope: Any, scale: Any, dx: Any) -> None:
    for k in range(len(dx)):
        dx[k] = (dx[k] - shift[k] - (x[k] - mean[k]) * slope[k]) * scale[k]
