"""Losses of numbers, by the mean over all values of a batch, and of Gaussians, by the mean over its rows.

As in `xpdl.ops.losses`, outputs in half precision are computed with in float32, in which the loss stays.
"""

from __future__ import annotations

import math

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, widened
from xpdl.ops.losses import batch_rows, by_row, counted, divided, targets, total_weight
from xpdl.ops.precision import in_float32


@op
def squared_error(x: Array, t: Array, sample_weight: Array | None = None) -> Array:
    """Compute the mean of ``(x - t)^2`` over all values; rows are weighted by `sample_weight` (N,), where that is given."""
    x, error = _error(x, t, sample_weight, "MeanSquaredError")
    return _mean(x, error * error, sample_weight, "MeanSquaredError")


@op
@in_float32
def squared_error_backward(x: Array, t: Array, dout: Array | float = 1.0, sample_weight: Array | None = None) -> Array:
    """``dx = 2 (x - t) dout / D`` for the number D of values, or ``2 r (x - t) dout / D`` with weights r that sum to D."""
    _, error = _error(x, t, sample_weight, "MeanSquaredError")
    return _shares(x, 2.0 * error, dout, sample_weight, "MeanSquaredError")


@op
def absolute_error(x: Array, t: Array, sample_weight: Array | None = None) -> Array:
    """Compute the mean of ``|x - t|`` over all values; rows are weighted by `sample_weight` (N,), where that is given."""
    x, error = _error(x, t, sample_weight, "MeanAbsoluteError")
    return _mean(x, array_namespace(x).abs(error), sample_weight, "MeanAbsoluteError")


@op
@in_float32
def absolute_error_backward(x: Array, t: Array, dout: Array | float = 1.0, sample_weight: Array | None = None) -> Array:
    """``dx = sign(x - t) dout / D``, weighted as in `squared_error_backward`; 0 where both are equal."""
    _, error = _error(x, t, sample_weight, "MeanAbsoluteError")
    return _shares(x, array_namespace(x).sign(error), dout, sample_weight, "MeanAbsoluteError")


@op
def huber(x: Array, t: Array, delta: float = 1.0, sample_weight: Array | None = None) -> Array:
    """Compute the mean over all values of half their squared errors, which grow linearly beyond `delta`.

    A value costs ``e^2 / 2`` where ``|e| <= delta`` for ``e = x - t``, else ``delta (|e| - delta / 2)``.
    """
    x, error = _error(x, t, sample_weight, "Huber")
    xp = array_namespace(x)
    size = xp.abs(error)
    within = xp.minimum(size, delta)
    return _mean(x, within * (size - 0.5 * within), sample_weight, "Huber")


@op
@in_float32
def huber_backward(
    x: Array, t: Array, dout: Array | float = 1.0, delta: float = 1.0, sample_weight: Array | None = None
) -> Array:
    """``dx = e dout / D`` with the error e limited to ``[-delta, delta]``, weighted as in `squared_error_backward`."""
    _, error = _error(x, t, sample_weight, "Huber")
    xp = array_namespace(x)
    return _shares(x, xp.minimum(xp.maximum(error, -delta), delta), dout, sample_weight, "Huber")


@op
def gaussian_kl(x: Array, t: Array | None = None, sample_weight: Array | None = None) -> Array:
    """Compute the Kullback-Leibler divergence of diagonal Gaussians from others, summed over a row, mean over the rows.

    Parameters
    ----------
    x : array (N, 2 D)
        Means, and then logarithms of variances, of D values each.
    t : array (N, 2 D), optional
        The same of the Gaussians that those of `x` are compared with; by default the standard normal distribution.
    sample_weight : array (N,), optional
        Weights of the rows.

    Returns
    -------
    array ()
        The mean of ``sum(log(v_t / v) + (v + (m - m_t)^2) / v_t - 1) / 2`` over the rows, for means m and variances v.
    """
    owner = "GaussianKL"
    batch_rows(x, owner)
    x = widened(x)
    xp = array_namespace(x, t, sample_weight)
    gap, log_ratio, scale = _gaussians(x, t, sample_weight)
    terms = xp.exp(log_ratio) + gap * gap * scale - 1.0 - log_ratio
    loss = 0.5 * xp.sum(terms * by_row(terms, sample_weight, owner))
    return divided(loss, total_weight(x, x, None, sample_weight, owner))


@op
@in_float32
def gaussian_kl_backward(
    x: Array, t: Array | None = None, dout: Array | float = 1.0, sample_weight: Array | None = None
) -> Array:
    """``dx``: ``(m - m_t) / v_t`` for means and ``(v / v_t - 1) / 2`` for log variances, times the weight of the row."""
    owner = "GaussianKL"
    xp = array_namespace(x, t, sample_weight)
    gap, log_ratio, scale = _gaussians(x, t, sample_weight)
    dx = xp.concat([gap * scale, 0.5 * (xp.exp(log_ratio) - 1.0)], axis=-1)
    total = total_weight(x, x, None, sample_weight, owner)
    return dx * by_row(dx, sample_weight, owner) * divided(dout, total)


def _gaussians(x: Array, t: Array | None, sample_weight: Array | None) -> tuple[Array, Array, Array | float]:
    """Differences of means, of log variances, and ``1 / v_t``; those of standard normal ones in rows of weight 0."""
    owner = "GaussianKL"
    x = counted(x, sample_weight, owner)
    half = x.shape[-1] // 2
    mean, log_var = x[..., :half], x[..., half:]
    if t is None:
        return mean, log_var, 1.0
    t = counted(targets(x, t, owner), sample_weight, owner)
    return mean - t[..., :half], log_var - t[..., half:], array_namespace(t).exp(-t[..., half:])


def _error(x: Array, t: Array, sample_weight: Array | None, owner: str) -> tuple[Array, Array]:
    """Outputs in float32 at least, and their differences to the targets; 0 in rows of weight 0."""
    batch_rows(x, owner)
    x = widened(x)
    return x, counted(x, sample_weight, owner) - counted(targets(x, t, owner), sample_weight, owner)


def _values(x: Array) -> int:
    """The number of values of a row."""
    return max(1, math.prod(int(size) for size in x.shape[1:]))


def _mean(x: Array, costs: Array, sample_weight: Array | None, owner: str) -> Array:
    """The weighted mean over all values of a batch."""
    xp = array_namespace(x, sample_weight)
    total = total_weight(x, x, None, sample_weight, owner)
    return divided(xp.sum(costs * by_row(x, sample_weight, owner)), total * _values(x))


def _shares(x: Array, slopes: Array, dout: Array | float, sample_weight: Array | None, owner: str) -> Array:
    """``dx`` of `_mean` for the slopes of the costs."""
    total = total_weight(x, x, None, sample_weight, owner)
    return slopes * by_row(x, sample_weight, owner) * divided(dout, total * _values(x))
