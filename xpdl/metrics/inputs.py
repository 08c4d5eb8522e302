"""Predictions and targets as all measures take them: on the host, of fitting shapes and kinds."""

from __future__ import annotations

import math

from xpdl.backends import asnumpy
from xpdl.backends.namespaces import Array, array_namespace, is_array, is_floating
from xpdl.errors import LabelError, ShapeError
from xpdl.ops.checks import require_range

#: Stands for the predicted class of a row whose scores hold NaN, which is none.
UNDECIDED = -(2**63)


def on_host(y: Array, t: Array, owner: str) -> tuple[Array, Array]:
    """Both as NumPy arrays with the same rows, at least one; floats in float64."""
    for name, array in (("y", y), ("t", t)):
        if not is_array(array):
            raise TypeError(
                f"{owner}: {name} must be an array, got {type(array).__name__}; make one with xpdl.asarray(...)"
            )
    if y.ndim < 1 or t.ndim < 1 or y.shape[0] != t.shape[0] or y.shape[0] == 0:
        raise ShapeError(
            f"{owner}: y and t must have the same number of rows, at least one, got shapes {tuple(y.shape)} and "
            f"{tuple(t.shape)}"
        )
    y, t = asnumpy(y), asnumpy(t)
    xp = array_namespace(y)
    return tuple(xp.astype(a, xp.float64) if is_floating(a) else a for a in (y, t))


def decisions(y: Array, t: Array, owner: str) -> tuple[Array, Array]:
    """Predicted and true labels (N,), or booleans (N, K) of multilabel rows; `UNDECIDED` for scores that hold NaN."""
    y, t = on_host(y, t, owner)
    xp = array_namespace(y)
    if y.ndim == 2 and y.shape[-1] == 1:
        y, t = y[:, 0], (t[:, 0] if t.ndim == 2 and t.shape[-1] == 1 else t)
    if y.ndim == 2 and is_floating(y):
        undecided = xp.any(xp.isnan(y), axis=-1)
        return xp.where(undecided, UNDECIDED, xp.argmax(y, axis=-1)), labels(t, y, owner)
    if tuple(y.shape) != tuple(t.shape) or y.ndim > 2:
        raise ShapeError(
            f"{owner}: y has shape {tuple(y.shape)}, but t {tuple(t.shape)}; see the table of xpdl.metrics"
        )
    if y.ndim == 2:
        return y > 0, t > 0.5 if is_floating(t) else t > 0
    if is_floating(y):
        require_binary(t, y, owner)
        decided = xp.where(xp.isnan(y), UNDECIDED, xp.astype(y > 0.5, xp.int64))
        return decided, xp.astype(t > 0.5, xp.int64)
    if is_floating(t):
        t = _whole(t, owner)
    return xp.astype(y, xp.int64), xp.astype(t, xp.int64)


def labels(t: Array, y: Array, owner: str) -> Array:
    """Labels (N,) for scores `y` (N, K), from such, a column of them, or one-hot rows."""
    xp = array_namespace(y)
    if t.ndim == 2 and t.shape[-1] == 1 != y.shape[-1]:
        t = t[:, 0]
    if t.ndim == y.ndim:
        if tuple(t.shape) != tuple(y.shape):
            raise ShapeError(f"{owner}: y has shape {tuple(y.shape)}, but one-hot t {tuple(t.shape)}")
        return xp.argmax(t, axis=-1)
    t = xp.astype(_whole(t, owner) if is_floating(t) else t, xp.int64)
    require_range(t, y.shape[-1], owner)
    return t


def require_binary(t: Array, y: Array, owner: str) -> None:
    if tuple(t.shape) != tuple(y.shape):
        raise ShapeError(
            f"{owner}: y has shape {tuple(y.shape)}, but t {tuple(t.shape)}; see the table of xpdl.metrics"
        )
    xp = array_namespace(y)
    if not xp.isdtype(t.dtype, "bool") and bool(xp.any((t != 0) & (t != 1))):
        raise LabelError(f"{owner}: with one score for each row the labels are 0 and 1, got others")


def _whole(t: Array, owner: str) -> Array:
    if bool(array_namespace(t).any(t != array_namespace(t).round(t))):
        raise LabelError(f"{owner}: labels must be whole numbers")
    return t


def weighted_mean(values: list[float], weights: list[float]) -> float:
    """The weighted mean; of no weight at all the plain one, and NaN of nothing."""
    if not values:
        return math.nan
    if not any(weights):
        weights = [1.0] * len(values)
    return math.fsum(v * w for v, w in zip(values, weights, strict=True)) / math.fsum(weights)
