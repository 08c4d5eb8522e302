"""Normalization of each row by itself: over the last axis, over groups of channels, or by the root of the mean square.

No statistics of the batch and no difference between training and evaluation. As in `xpdl.ops.normalization`, everything is
computed in the wider dtype of `x` and gamma, in float32 where both are in half precision; what has the shape of `x` comes in
the dtype of `x`, gradients of gamma and beta in that of gamma, and statistics in the one that was computed with.
"""

from __future__ import annotations

import math

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, rounded_to, widened


@op
def layer_normalization(x: Array, gamma: Array, beta: Array, eps: float) -> tuple[Array, Array, Array]:
    """Normalise each vector along the last axis, then scale and shift.

    Parameters
    ----------
    x : array (..., F)
    gamma, beta : array (F,)
    eps : float
        Added to the variance under the root.

    Returns
    -------
    y : array (..., F)
        ``gamma (x - mean) / std + beta``.
    mean, std : arrays (..., 1)
        ``std = sqrt(var + eps)`` with the biased variance.
    """
    xp = array_namespace(x, gamma, beta)
    wide, gamma, beta = _in_common(x, gamma, beta)
    mean = xp.mean(wide, axis=-1, keepdims=True)
    std = _root(wide - mean, eps)
    return rounded_to(x.dtype, (wide - mean) / std * gamma + beta), mean, std


@op
def layer_normalization_backward(
    dy: Array, x: Array, gamma: Array, mean: Array, std: Array, *, need_dgamma: bool = True
) -> tuple[Array, Array | None, Array | None]:
    """Compute ``dx, dgamma, dbeta`` of `layer_normalization` for `dy` (..., F).

    With ``x_hat = (x - mean) / std`` and ``d = gamma dy``: ``dx = (d - mean(d) - x_hat mean(d x_hat)) / std``. Without
    `need_dgamma`, as in a layer that is frozen, the last two are None.
    """
    dtypes = x.dtype, gamma.dtype
    dy, x, gamma = _in_common(dy, x, gamma)
    x_hat = (x - mean) / std
    dx = _through_standardization(dy * gamma, x_hat, std)
    sums = _sums_over_rows(dy, x_hat, dtypes[1]) if need_dgamma else (None, None)
    return rounded_to(dtypes[0], dx), *sums


@op
def rms_normalization(x: Array, gamma: Array, eps: float) -> tuple[Array, Array]:
    """Divide each vector along the last axis by the root of its mean square, then scale.

    Parameters
    ----------
    x : array (..., F)
    gamma : array (F,)
    eps : float
        Added to the mean square under the root.

    Returns
    -------
    y : array (..., F)
        ``gamma x / rms``.
    rms : array (..., 1)
        ``sqrt(mean(x^2) + eps)``.
    """
    wide, gamma = _in_common(x, gamma)
    rms = _root(wide, eps)
    return rounded_to(x.dtype, wide / rms * gamma), rms


@op
def rms_normalization_backward(
    dy: Array, x: Array, gamma: Array, rms: Array, *, need_dgamma: bool = True
) -> tuple[Array, Array | None]:
    """Compute ``dx, dgamma`` of `rms_normalization` for `dy` (..., F).

    With ``x_hat = x / rms`` and ``d = gamma dy``: ``dx = (d - x_hat mean(d x_hat)) / rms``. Without `need_dgamma` that is
    None.
    """
    xp, dtypes = array_namespace(dy, x, gamma, rms), (x.dtype, gamma.dtype)
    dy, x, gamma = _in_common(dy, x, gamma)
    x_hat, d = x / rms, dy * gamma
    dx = (d - x_hat * xp.mean(d * x_hat, axis=-1, keepdims=True)) / rms
    return rounded_to(dtypes[0], dx), _sums_over_rows(dy, x_hat, dtypes[1])[0] if need_dgamma else None


@op
def group_normalization(x: Array, gamma: Array, beta: Array, groups: int, eps: float) -> tuple[Array, Array, Array]:
    """Normalise each group of channels of each row, over its channels and positions, then scale and shift by channel.

    Parameters
    ----------
    x : array (N, C, ...)
    gamma, beta : array (C,)
    groups : int
        Divides C; channels that lie side by side make a group.
    eps : float
        Added to the variance under the root.

    Returns
    -------
    y : array of the shape of `x`
    mean, std : arrays (N, groups, 1)
        ``std = sqrt(var + eps)`` with the biased variance.
    """
    xp = array_namespace(x, gamma, beta)
    wide, gamma, beta = _in_common(x, gamma, beta)
    rows = _groups(wide, groups)
    mean = xp.mean(rows, axis=-1, keepdims=True)
    std = _root(rows - mean, eps)
    x_hat = xp.reshape((rows - mean) / std, x.shape)
    return rounded_to(x.dtype, x_hat * _by_channel(gamma, x) + _by_channel(beta, x)), mean, std


@op
def group_normalization_backward(
    dy: Array, x: Array, gamma: Array, groups: int, mean: Array, std: Array, *, need_dgamma: bool = True
) -> tuple[Array, Array | None, Array | None]:
    """Compute ``dx, dgamma, dbeta`` of `group_normalization` for `dy` of the shape of `x`.

    Without `need_dgamma` the last two are None.
    """
    xp, shape, dtypes = array_namespace(dy, x, gamma, mean), x.shape, (x.dtype, gamma.dtype)
    dy, x, gamma = _in_common(dy, x, gamma)
    x_hat = (_groups(x, groups) - mean) / std
    dx = _through_standardization(_groups(dy * _by_channel(gamma, x), groups), x_hat, std)
    dx = rounded_to(dtypes[0], xp.reshape(dx, shape))
    if not need_dgamma:
        return dx, None, None
    axes = (0, *range(2, len(shape)))
    dgamma, dbeta = (xp.sum(a, axis=axes) for a in (dy * xp.reshape(x_hat, shape), dy))
    return dx, rounded_to(dtypes[1], dgamma), rounded_to(dtypes[1], dbeta)


def _in_common(x: Array, *others: Array) -> list[Array]:
    """All of them in the widest of their dtypes, which is at least float32."""
    xp = array_namespace(x, *others)
    wide = [widened(a) for a in (x, *others)]
    dtype = xp.result_type(*wide)
    return [rounded_to(dtype, a) for a in wide]


def _root(a: Array, eps: float) -> Array:
    """The root of the mean square along the last axis."""
    xp = array_namespace(a)
    return xp.sqrt(xp.mean(a * a, axis=-1, keepdims=True) + eps)


def _through_standardization(d: Array, x_hat: Array, std: Array) -> Array:
    """``dx`` of ``x_hat = (x - mean(x)) / std(x)`` along the last axis, for the gradient `d` of that."""
    xp = array_namespace(d, x_hat, std)
    mean, slope = (xp.mean(a, axis=-1, keepdims=True) for a in (d, d * x_hat))
    return (d - mean - x_hat * slope) / std


def _sums_over_rows(dy: Array, x_hat: Array, dtype: object) -> tuple[Array, Array]:
    """``dgamma, dbeta`` of a scale and shift along the last axis."""
    xp, axes = array_namespace(dy, x_hat), tuple(range(dy.ndim - 1))
    return rounded_to(dtype, xp.sum(dy * x_hat, axis=axes)), rounded_to(dtype, xp.sum(dy, axis=axes))


def _groups(x: Array, groups: int) -> Array:
    """(N, C, ...) as (N, groups, values of a group)."""
    return array_namespace(x).reshape(x, (x.shape[0], groups, math.prod(x.shape[1:]) // groups))


def _by_channel(p: Array, x: Array) -> Array:
    """(C,) shaped to broadcast along axis 1 of `x`."""
    return array_namespace(p).reshape(p, (-1, *(1,) * (x.ndim - 2)))
