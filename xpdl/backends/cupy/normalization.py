"""Batch normalization: mean and variance of channels in one pass over memory, in two stages, then another for the output."""

from __future__ import annotations

from typing import Any

from xpdl.backends.cupy.channel_plans import planned
from xpdl.backends.cupy.launch import (
    BLOCK,
    computing_dtype,
    contiguous,
    dtype_name,
    empty,
    kernel,
    launch,
    same_device,
    supports,
)
from xpdl.backends.epilogues import is_relu, relu_output
from xpdl.backends.namespaces import Array
from xpdl.backends.registry import DECLINE


@kernel("batch_normalization")
def batch_normalization(
    x: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    *,
    activation: str | None = None,
    residual: Array | None = None,
) -> tuple[Array, Array, Array]:
    """As `xpdl.ops.normalization.batch_normalization`."""
    if not _served(_given(x, residual), gamma, beta):
        return DECLINE
    y, mean, var, *_ = _forward(x, gamma, beta, eps, is_relu(activation), residual)
    return y, mean, var


@kernel("tracked_batch_normalization")
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
    """As `xpdl.ops.normalization.tracked_batch_normalization`."""
    if not _served(_given(x, residual), gamma, beta, running_mean, running_var):
        return DECLINE
    running = running_mean, running_var
    return _forward(x, gamma, beta, eps, is_relu(activation), residual, running, momentum)


def _forward(
    x: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    relu: bool,
    residual: Array | None,
    running: tuple[Array, ...] = (),
    momentum: float = 0.0,
) -> Any:
    """The output, the statistics of the batch and, where there are `running` ones, new ones."""
    plan, x, other = planned(x, residual)
    sums, squares = plan.partial(), plan.partial()
    plan.launch("channel_moments", x, sums, squares)
    y = plan.result(x.dtype)
    statistics = [empty(gamma.shape, computing_dtype(x.dtype)) for _ in range(2 + len(running))]
    given = (x, _computed(gamma), _computed(beta), float(eps), int(relu), other, sums, squares, plan.parts)
    mean, var, *new = statistics
    tracked = (*(map(_computed, running) if running else (0, 0)), float(momentum), *(new or (0, 0)))
    plan.launch("batch_normalization", *given, y, mean, var, *tracked)
    return (y, *statistics)


@kernel("normalize")
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
    """As `xpdl.ops.normalization.normalize`."""
    if not _served(_given(x, residual), gamma, beta, mean, var):
        return DECLINE
    plan, x, other = planned(x, residual)
    y = plan.result(x.dtype)
    plan.launch(
        "normalize", x, *map(_computed, (gamma, beta, mean, var)), float(eps), int(is_relu(activation)), other, y
    )
    return y


@kernel("batch_normalization_backward")
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
    """As `xpdl.ops.normalization.batch_normalization_backward`."""
    return _backward(dy, x, gamma, mean, var, eps, relu_output(activation, y), constant=False)


@kernel("normalize_backward")
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
    """As `xpdl.ops.normalization.normalize_backward`."""
    given = dy, x, gamma, mean, var, eps, relu_output(activation, y)
    results = _backward(*given, constant=True, need_sums=need_dgamma)
    return results if need_dgamma or results is DECLINE else (results[0], None, None)


def _backward(
    dy: Array,
    x: Array,
    gamma: Array,
    mean: Array,
    var: Array,
    eps: float,
    y: Array | None,
    *,
    constant: bool,
    need_sums: bool = True,
) -> tuple[Array, Array, Array]:
    """``dx, dgamma, dbeta``; without `need_sums` the last two are 0, and ``dx`` is right if statistics are `constant`."""
    if not _served(_given(dy, x, y), gamma, mean, var):
        return DECLINE
    plan, *images = planned(dy, x, y)
    sums, products = plan.partial(), plan.partial()
    statistics = (_computed(mean), _computed(var), float(eps))
    if need_sums:
        plan.launch("channel_products", *images, *statistics, sums, products)
    dx = plan.result(dy.dtype)
    dgamma, dbeta = (empty(gamma.shape, computing_dtype(dy.dtype)) for _ in range(2))
    given = (*images, _computed(gamma), *statistics, sums, products, plan.parts if need_sums else 0)
    plan.launch("batch_normalization_backward", *given, dx, dgamma, dbeta, int(constant))
    return dx, _as(gamma, dgamma), _as(gamma, dbeta)


def _given(*images: Array | None) -> tuple[Array, ...]:
    return tuple(a for a in images if a is not None)


def _served(values: tuple[Array, ...], *of_channels: Array) -> bool:
    """Return whether all are of one dtype, or `values` in half precision and the arrays of channels in that or float32."""
    first = values[0]
    if first.ndim < 2 or not supports(*values):
        return False
    shape = first.shape
    for a in values:
        if a.shape != shape:
            return False
    return parameters_fit(first, *of_channels)


def parameters_fit(x: Array, *parameters: Array) -> bool:
    """Return whether they are of the dtype of `x`, or the one that is computed with, and on its device."""
    if not same_device(x, *parameters):
        return False
    dtypes = (dtype_name(x.dtype), computing_dtype(x.dtype))
    for p in parameters:  # noqa: SIM110 - a generator takes three times as long
        if dtype_name(p.dtype) not in dtypes or not p.size:
            return False
    return True


def _computed(p: Array) -> Array:
    """`p` in the dtype that is computed with."""
    return contiguous(in_dtype(p, computing_dtype(p.dtype)))


def _as(gamma: Array, p: Array) -> Array:
    return in_dtype(p, dtype_name(gamma.dtype))


def in_dtype(p: Array, dtype: str) -> Array:
    """`p` itself if it has the dtype of that name, else a copy that has."""
    return p if dtype_name(p.dtype) == dtype else p.astype(dtype)


def bias_gradient(dy: Array) -> Array:
    """The sum of `dy` (N, C, ...) over all but axis 1."""
    plan, dy = planned(dy)
    sums = plan.partial()
    plan.launch("channel_sums", dy, sums)
    if plan.parts == 1 and sums.dtype == dy.dtype:
        return sums[0]
    db = empty((dy.shape[1],), dy.dtype)
    blocks, args = -(-db.size // BLOCK), (sums, plan.parts, db, db.size)
    launch("normalization", "channel_totals", dtype_name(dy.dtype), (blocks,), (BLOCK,), args, dy.size)
    return db
