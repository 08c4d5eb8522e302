"""Batch normalization with the statistics of the batch, or with given ones.

In mixed precision `x` and `dy` have a narrower dtype than gamma. Everything is computed in the wider one, in float32 where
both are in half precision, and so come the statistics. Gradients of gamma and beta come in the dtype of gamma, what has the
shape of `x` in that of `x`.

The epilogue may be a sum with a `residual`, in which a residual block ends, and a relu after that. The backward passes find
the relu's mask in its output `y`; the gradient of the residual is that of the sum, ``relu_backward(dy, y)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, on_its_device, rounded_to, widened
from xpdl.ops.epilogues import activated, before_activation

# sums of arrays over the ranks
Reduce = Callable[[Sequence[Array]], list[Array]]


def _axes(x: Array) -> tuple[int, ...]:
    """All but axis 1: features of (N, D), channels of (N, C, H, W)."""
    return (0, *range(2, x.ndim))


def _like(p: Array, x: Array) -> Array:
    """`x` in the dtype of `p`."""
    return rounded_to(p.dtype, x)


def _along(p: Array, x: Array) -> Array:
    """(C,) shaped to broadcast along axis 1 of `x`."""
    return array_namespace(p).reshape(p, (-1, *(1,) * (x.ndim - 2)))


@op
def batch_normalization(
    x: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    *,
    activation: str | None = None,
    residual: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Normalise each feature or channel over the batch, then scale and shift.

    Parameters
    ----------
    x : array (N, C) or (N, C, ...)
    gamma, beta : array (C,)
    eps : float
        Added to the variance under the root.
    activation : "relu", optional
        Applied to the result, after the sum.
    residual : array of the shape and dtype of `x`, optional

    Returns
    -------
    y : array of the shape of `x`
        ``gamma x_hat + beta + residual`` with ``x_hat = (x - mean) / sqrt(var + eps)``, or relu of it.
    mean, var : arrays (C,)
        `var` is the biased one, divided by the number of values. Both are float32 for half precision.
    """
    xp = array_namespace(x, gamma, beta)
    axes, given = _axes(x), x
    gamma, beta = widened(gamma), widened(beta)
    x = _like(gamma, x)
    mean = xp.mean(x, axis=axes)
    centred = x - _along(mean, x)
    var = xp.mean(centred * centred, axis=axes)
    y = centred * _along(1.0 / xp.sqrt(var + eps), x) * _along(gamma, x) + _along(beta, x)
    return _like(given, _epilogue(y, activation, residual)), mean, var


@op
def tracked_batch_normalization(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    momentum: float,
    eps: float,
    *,
    activation: str | None = None,
    residual: Array | None = None,
) -> tuple[Array, Array, Array, Array, Array]:
    """`batch_normalization`, and the running statistics after it.

    Parameters
    ----------
    running_mean, running_var : array (C,)
    momentum : float
        Their share in the new ones.

    Returns
    -------
    y, mean, var
        As of `batch_normalization`.
    running_mean, running_var : arrays (C,)
        ``momentum running + (1 - momentum) batch``.
    """
    y, mean, var = batch_normalization(x, gamma, beta, eps, activation=activation, residual=residual)
    share = 1.0 - momentum
    old_mean, old_var = widened(running_mean), widened(running_var)
    return y, mean, var, momentum * old_mean + share * mean, momentum * old_var + share * var


@op
def batch_normalization_backward(
    dy: Array,
    x: Array,
    gamma: Array,
    mean: Array,
    var: Array,
    eps: float,
    *,
    y: Array | None = None,
    activation: str | None = None,
) -> tuple[Array, Array, Array]:
    """Compute the gradients of `batch_normalization`, through the batch's `mean` and `var` as well.

    Parameters
    ----------
    dy, x : array (N, C) or (N, C, ...)
    gamma, mean, var : array (C,)
        `mean` and `var` are those that the forward pass returned.
    eps : float
    y : array of the shape of `x`, optional
        The output of the forward pass, which an `activation` needs.
    activation : "relu", optional
        That of the forward pass.

    Returns
    -------
    dx : array of the shape and dtype of `x`
    dgamma, dbeta : arrays (C,)
    """
    xp = array_namespace(dy, x, gamma, mean, var)
    axes, given, stored = _axes(dy), dy, gamma
    gamma, mean, var = widened(gamma), widened(mean), widened(var)
    dy, x_hat, inv_std = _upstream(before_activation(dy, y, activation), x, gamma, mean, var, eps)
    dgamma, dbeta = xp.sum(dy * x_hat, axis=axes), xp.sum(dy, axis=axes)
    count = math.prod(dy.shape[axis] for axis in axes)
    dx = dy - _along(dbeta / count, dy) - x_hat * _along(dgamma / count, dy)
    return _like(given, dx * _along(gamma * inv_std, dy)), _like(stored, dgamma), _like(stored, dbeta)


@op
def normalize(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    var: Array,
    eps: float,
    *,
    activation: str | None = None,
    residual: Array | None = None,
) -> Array:
    """Compute ``gamma x_hat + beta`` with given statistics, as batch normalization does in evaluation.

    Parameters, the epilogue and shapes are those of `batch_normalization`.
    """
    xp = array_namespace(x, gamma, beta, mean, var)
    gamma, beta, mean, var = widened(gamma), widened(beta), widened(mean), widened(var)
    given, x = x, _like(gamma, x)
    y = (x - _along(mean, x)) * _along(1.0 / xp.sqrt(var + eps), x) * _along(gamma, x) + _along(beta, x)
    return _like(given, _epilogue(y, activation, residual))


@op
def normalize_backward(
    dy: Array,
    x: Array,
    gamma: Array,
    mean: Array,
    var: Array,
    eps: float,
    *,
    y: Array | None = None,
    activation: str | None = None,
    need_dgamma: bool = True,
) -> tuple[Array, Array | None, Array | None]:
    """As `batch_normalization_backward`, of `normalize`, with constant statistics; without `need_dgamma`, `dx` alone."""
    xp = array_namespace(dy, x, gamma, mean, var)
    axes, given, stored = _axes(dy), dy, gamma
    gamma, mean, var = widened(gamma), widened(mean), widened(var)
    dy, x_hat, inv_std = _upstream(before_activation(dy, y, activation), x, gamma, mean, var, eps)
    dx = dy * _along(gamma * inv_std, dy)
    if not need_dgamma:
        return _like(given, dx), None, None
    dgamma, dbeta = xp.sum(dy * x_hat, axis=axes), xp.sum(dy, axis=axes)
    return _like(given, dx), _like(stored, dgamma), _like(stored, dbeta)


@on_its_device
def statistics_of_ranks(x: Array, gamma: Array, rows: int, is_idle: bool, reduce: Reduce) -> tuple[Array, Array]:
    """Compute the mean and biased variance of a batch of which each rank has some rows.

    Parameters
    ----------
    x : array (N, C) or (N, C, ...), the rows of this rank
    gamma : array (C,), whose dtype they are computed in, float32 for half precision
    rows : int
        Of all ranks together.
    is_idle : bool
        Whether `x` is a row of another rank, which does not count.
    reduce : callable
        ``reduce(arrays)`` -> their sums over the ranks.

    Returns
    -------
    mean, var : arrays (C,)
    """
    xp = array_namespace(x, gamma)
    x, count = _like(widened(gamma), x), _count(x, rows)
    share = 0.0 if is_idle else 1.0
    (total,) = reduce([share * xp.sum(x, axis=_axes(x))])
    mean = total / count
    centred = x - _along(mean, x)
    (squares,) = reduce([share * xp.sum(centred * centred, axis=_axes(x))])
    return mean, squares / count


@on_its_device
def normalize_of_ranks_backward(
    dy: Array,
    x: Array,
    gamma: Array,
    mean: Array,
    var: Array,
    eps: float,
    rows: int,
    is_idle: bool,
    reduce: Reduce,
    *,
    y: Array | None = None,
    activation: str | None = None,
) -> tuple[Array, Array, Array]:
    """Compute the gradients of `normalize` with `statistics_of_ranks`, through these as well.

    Gradients `dy` are those of one loss of all ranks. `dx` is that of this rank's rows; `dgamma` and `dbeta` are its parts
    of sums over the ranks. Parameters are those of `batch_normalization_backward` and of `statistics_of_ranks`.
    """
    xp = array_namespace(dy, x, gamma, mean, var)
    given, stored, count = dy, gamma, _count(x, rows)
    gamma = widened(gamma)
    dy, x_hat, inv_std = _upstream(before_activation(dy, y, activation), x, gamma, mean, var, eps)
    share = 0.0 if is_idle else 1.0
    dbeta, dgamma = share * xp.sum(dy, axis=_axes(dy)), share * xp.sum(dy * x_hat, axis=_axes(dy))
    all_dbeta, all_dgamma = reduce([dbeta, dgamma])
    dx = dy - _along(all_dbeta / count, dy) - x_hat * _along(all_dgamma / count, dy)
    return _like(given, dx * _along(gamma * inv_std, dy)), _like(stored, dgamma), _like(stored, dbeta)


@on_its_device
def folded(
    W: Array, b: Array | None, gamma: Array, beta: Array, mean: Array, var: Array, eps: float
) -> tuple[Array, Array]:
    """Fold `normalize` into the convolution before it.

    Parameters
    ----------
    W : array (FN, C, ...)
    b : array (FN,), optional
    gamma, beta, mean, var : array (FN,)
    eps : float

    Returns
    -------
    W, b : arrays of the shapes of `W` and (FN,)
        Filters and bias of the one convolution that computes both.
    """
    xp = array_namespace(W, b, gamma, beta, mean, var, owner="BatchNormalization")
    scale = gamma / xp.sqrt(var + eps)
    bias = (-mean if b is None else b - mean) * scale + beta
    return xp.astype(W * xp.reshape(scale, (-1, *(1,) * (W.ndim - 1))), W.dtype), xp.astype(bias, W.dtype)


def _count(x: Array, rows: int) -> int:
    """Return the number of values of a feature or channel in so many rows."""
    positions: int = math.prod(x.shape[2:])
    return rows * positions


def _epilogue(y: Array, activation: str | None, residual: Array | None) -> Array:
    return activated(y if residual is None else y + _like(y, residual), activation)


def _upstream(dy: Array, x: Array, gamma: Array, mean: Array, var: Array, eps: float) -> tuple[Array, Array, Array]:
    """The gradient in the dtype that is computed with, `x_hat`, and what that was scaled by."""
    xp = array_namespace(dy, x, gamma, mean, var)
    dy, x = _like(gamma, dy), _like(gamma, x)
    inv_std = 1.0 / xp.sqrt(var + eps)
    return dy, (x - _along(mean, x)) * _along(inv_std, x), inv_std
