"""Batch normalization with the statistics of the batch, or with given ones.

In mixed precision `x` and `dy` have a narrower dtype than gamma. Everything is computed in the wider one, in float32 where
both are in half precision, and so come the statistics. Gradients of gamma and beta come in the dtype of gamma, what has the
shape of `x` in that of `x`.

What follows may be computed on the way: the sum with an `addend`, in which a residual block ends, and relu, for which
`rectified` asks. The backward passes are then given the rectified output `y`, whose sign is all they need of it; the
gradient of the addend is that of the sum.
"""

from __future__ import annotations

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, rounded_to, widened
from xpdl.ops.activations import relu, relu_backward


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
    x: Array, gamma: Array, beta: Array, eps: float, rectified: bool = False, addend: Array | None = None
) -> tuple[Array, Array, Array]:
    """Normalise each feature or channel over the batch, then scale and shift.

    Parameters
    ----------
    x : array (N, C) or (N, C, ...)
    gamma, beta : array (C,)
    eps : float
        Added to the variance under the root.
    rectified : bool
        Whether relu follows, after the sum.
    addend : array of the shape and dtype of `x`, optional

    Returns
    -------
    y : array of the shape of `x`
        ``gamma x_hat + beta + addend`` with ``x_hat = (x - mean) / sqrt(var + eps)``.
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
    return _like(given, _followed(y, rectified, addend)), mean, var


@op
def tracked_batch_normalization(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    momentum: float,
    eps: float,
    rectified: bool = False,
    addend: Array | None = None,
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
    y, mean, var = batch_normalization(x, gamma, beta, eps, rectified, addend)
    share = 1.0 - momentum
    old_mean, old_var = widened(running_mean), widened(running_var)
    return y, mean, var, momentum * old_mean + share * mean, momentum * old_var + share * var


@op
def batch_normalization_backward(
    dy: Array, x: Array, gamma: Array, mean: Array, var: Array, eps: float, y: Array | None = None
) -> tuple[Array, Array, Array]:
    """``dx, dgamma, dbeta``, through the batch's `mean` and `var` as well; `y` is the output where it was rectified."""
    xp = array_namespace(dy, x, gamma, mean, var)
    axes, given, stored = _axes(dy), dy, gamma
    gamma, mean, var = widened(gamma), widened(mean), widened(var)
    dy, x_hat, inv_std = _upstream(dy, x, gamma, mean, var, eps, y)
    dbeta = xp.sum(dy, axis=axes)
    dgamma = xp.sum(dy * x_hat, axis=axes)
    count = 1
    for axis in axes:
        count *= dy.shape[axis]
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
    rectified: bool = False,
    addend: Array | None = None,
) -> Array:
    """``gamma x_hat + beta`` with given statistics: what batch normalization does in evaluation."""
    xp = array_namespace(x, gamma, beta, mean, var)
    gamma, beta, mean, var = widened(gamma), widened(beta), widened(mean), widened(var)
    given, x = x, _like(gamma, x)
    y = (x - _along(mean, x)) * _along(1.0 / xp.sqrt(var + eps), x) * _along(gamma, x) + _along(beta, x)
    return _like(given, _followed(y, rectified, addend))


@op
def normalize_backward(
    dy: Array, x: Array, gamma: Array, mean: Array, var: Array, eps: float, y: Array | None = None
) -> tuple[Array, Array, Array]:
    """``dx, dgamma, dbeta`` when the statistics are constants; `y` is the output where it was rectified."""
    xp = array_namespace(dy, x, gamma, mean, var)
    axes, given, stored = _axes(dy), dy, gamma
    gamma, mean, var = widened(gamma), widened(mean), widened(var)
    dy, x_hat, inv_std = _upstream(dy, x, gamma, mean, var, eps, y)
    dx = dy * _along(gamma * inv_std, dy)
    dgamma, dbeta = xp.sum(dy * x_hat, axis=axes), xp.sum(dy, axis=axes)
    return _like(given, dx), _like(stored, dgamma), _like(stored, dbeta)


def _followed(y: Array, rectified: bool, addend: Array | None) -> Array:
    y = y if addend is None else y + _like(y, addend)
    return relu(y) if rectified else y


def _upstream(
    dy: Array, x: Array, gamma: Array, mean: Array, var: Array, eps: float, y: Array | None
) -> tuple[Array, Array, Array]:
    """The gradient of what was not rectified yet, `x_hat`, and what that was scaled by."""
    xp = array_namespace(dy, x, gamma, mean, var)
    dy, x = _like(gamma, dy if y is None else relu_backward(dy, y)), _like(gamma, x)
    inv_std = 1.0 / xp.sqrt(var + eps)
    return dy, (x - _along(mean, x)) * _along(inv_std, x), inv_std
