"""Measures of predicted numbers: squared and absolute errors, and the variance explained."""

from __future__ import annotations

import math

from xpdl.backends.namespaces import Array, array_namespace
from xpdl.errors import ShapeError
from xpdl.metrics.inputs import on_host


def mse(y: Array, t: Array) -> float:
    """Mean of the squared errors of predictions `y` and targets `t`, arrays (N, ...) of one shape."""
    y, t = _values(y, t, "mse")
    return float(array_namespace(y).mean((y - t) ** 2))


def mae(y: Array, t: Array) -> float:
    """Mean of the absolute errors of predictions `y` and targets `t`, arrays (N, ...) of one shape."""
    y, t = _values(y, t, "mae")
    xp = array_namespace(y)
    return float(xp.mean(xp.abs(y - t)))


def r2(y: Array, t: Array) -> float:
    """Coefficient of determination: the share of the variance of `t` (N, ...) that predictions `y` explain.

    ``1 - sum((t - y)^2) / sum((t - mean(t))^2)`` for each output, and the mean over these. A constant target counts 1 where
    it is predicted exactly and 0 where not. NaN for a single row.
    """
    y, t = _values(y, t, "r2")
    xp = array_namespace(y)
    if y.shape[0] < 2:
        return math.nan
    y, t = (xp.reshape(a, (a.shape[0], -1)) for a in (y, t))
    wrong = xp.sum((t - y) ** 2, axis=0)
    spread = xp.sum((t - xp.mean(t, axis=0, keepdims=True)) ** 2, axis=0)
    # the mean of equal numbers may be rounded to another one
    varies = (spread > 0) & xp.any(t != t[:1, :], axis=0)
    explained = 1.0 - wrong / xp.where(varies, spread, 1.0)
    constant = xp.where(wrong > 0, 0.0, 1.0)
    return float(xp.mean(xp.where(varies | xp.isnan(wrong), explained, constant)))


def _values(y: Array, t: Array, owner: str) -> tuple[Array, Array]:
    """Real numbers of one shape in float64; (N,) also goes with (N, 1)."""
    y, t = on_host(y, t, owner)
    if y.ndim == t.ndim + 1 and y.shape[-1] == 1:
        y = y[..., 0]
    elif t.ndim == y.ndim + 1 and t.shape[-1] == 1:
        t = t[..., 0]
    if tuple(y.shape) != tuple(t.shape):
        raise ShapeError(f"{owner}: y has shape {tuple(y.shape)}, but t {tuple(t.shape)}")
    xp = array_namespace(y)
    return xp.astype(y, xp.float64), xp.astype(t, xp.float64)
