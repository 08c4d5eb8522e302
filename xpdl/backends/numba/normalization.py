"""Batch normalisation of images (outer, C, inner), channel by channel in two passes over its values."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu import batch_norm
from xpdl.backends.epilogues import is_relu, relu_output
from xpdl.backends.numba import batch_norm_2d
from xpdl.backends.numba.jit import compiled, inline, reduction
from xpdl.backends.registry import kernel

# Values that are summed as they are, and stay in the nearest cache for a second pass; their sums are added in float64.
_PIECE = 4096


@kernel("numba", "batch_normalization")
def batch_normalization(
    x: NDArray,
    gamma: NDArray,
    beta: NDArray,
    eps: float,
    *,
    activation: str | None = None,
    residual: NDArray | None = None,
) -> tuple[NDArray, NDArray, NDArray]:
    """As `xpdl.ops.normalization.batch_normalization`."""
    if x.ndim == 2 and residual is None:
        return batch_norm_2d.batch_normalization(x, gamma, beta, eps, is_relu(activation))
    return batch_norm.forward(_forward, x, gamma, beta, eps, is_relu(activation), residual)


@kernel("numba", "batch_normalization_backward")
def batch_normalization_backward(
    dy: NDArray,
    x: NDArray,
    gamma: NDArray,
    mean: NDArray,
    var: NDArray,
    eps: float,
    *,
    y: NDArray | None = None,
    activation: str | None = None,
) -> tuple[NDArray, NDArray, NDArray]:
    """As `xpdl.ops.normalization.batch_normalization_backward`."""
    y = relu_output(activation, y)
    if x.ndim == 2:
        return batch_norm_2d.batch_normalization_backward(dy, x, gamma, mean, var, eps, y)
    return batch_norm.backward(_backward, dy, x, gamma, mean, var, eps, y)


@kernel("numba", "normalize")
def normalize(
    x: NDArray,
    gamma: NDArray,
    beta: NDArray,
    mean: NDArray,
    var: NDArray,
    eps: float,
    *,
    activation: str | None = None,
    residual: NDArray | None = None,
) -> NDArray:
    """As `xpdl.ops.normalization.normalize`."""
    if x.ndim == 2 and residual is None:
        return batch_norm_2d.normalize(x, gamma, beta, mean, var, eps, is_relu(activation))
    return batch_norm.normalize(_normalize, x, gamma, beta, mean, var, eps, is_relu(activation), residual)


@compiled
def _forward(
    x: Any,
    gamma: Any,
    beta: Any,
    eps: Any,
    relu: Any,
    residual: Any,
    adds: Any,
    start: Any,
    stop: Any,
    y: Any,
    mean: Any,
    var: Any,
) -> None:
    """Mean and variance of channels from `start` to `stop`, and their values normalised."""
    for c in range(start, stop):
        # of the pieces so far: number, sum, mean, and sum of squared differences from the mean
        count, total, centre, squares = 0, 0.0, 0.0, 0.0
        for k in range(x.shape[0]):
            for left in range(0, x.shape[2], _PIECE):
                piece = x[k, c, left : left + _PIECE]
                n, plain = len(piece), _sum(piece)
                total += plain
                # about the mean of the piece nothing cancels; what that was rounded by is the mean of the differences
                about = x.dtype.type(plain / n)
                rest, square = _differences(piece, about)
                # two samples as one: T. F. Chan, G. H. Golub and R. J. LeVeque, Updating formulae and a pairwise algorithm
                # for computing sample variances (1979)
                apart = about + rest / n - centre
                count += n
                centre += apart * n / count
                squares += square - float(rest) * rest / n + apart * apart * n * (count - n) / count
        # infinite values have a mean, as in a plain sum, but no differences from it
        mean[c] = centre if np.isfinite(total) else total / count
        var[c] = squares / count
        scale = x.dtype.type(gamma[c] / np.sqrt(var[c] + eps))
        # the rounding of the mean counts where it is large and the variance small
        rounded = (centre - mean[c]) * scale
        shift = x.dtype.type(beta[c] - rounded if np.isfinite(rounded) else beta[c])
        for k in range(x.shape[0]):
            if relu and adds:
                _relu_of_sum(x[k, c], mean[c], scale, shift, residual[k, c], y[k, c])
            elif relu:
                _relu(x[k, c], mean[c], scale, shift, y[k, c])
            elif adds:
                _sum_with(x[k, c], mean[c], scale, shift, residual[k, c], y[k, c])
            else:
                _scaled(x[k, c], mean[c], scale, shift, y[k, c])


@compiled
def _normalize(
    x: Any,
    mean: Any,
    scale: Any,
    beta: Any,
    relu: Any,
    residual: Any,
    adds: Any,
    top: Any,
    bottom: Any,
    start: Any,
    stop: Any,
    y: Any,
) -> None:
    """Values normalised with given statistics, of channels from `start` to `stop` in a part of the outer axis."""
    for k in range(top, bottom):
        for c in range(start, stop):
            if relu and adds:
                _relu_of_sum(x[k, c], mean[c], scale[c], beta[c], residual[k, c], y[k, c])
            elif relu:
                _relu(x[k, c], mean[c], scale[c], beta[c], y[k, c])
            elif adds:
                _sum_with(x[k, c], mean[c], scale[c], beta[c], residual[k, c], y[k, c])
            else:
                _scaled(x[k, c], mean[c], scale[c], beta[c], y[k, c])


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
    """Gradients of channels from `start` to `stop`."""
    count = x.shape[0] * x.shape[2]
    for c in range(start, stop):
        total, products = 0.0, 0.0
        for k in range(x.shape[0]):
            for left in range(0, x.shape[2], _PIECE):
                right = left + _PIECE
                if relu:
                    part = _relu_products(dy[k, c, left:right], x[k, c, left:right], mean[c], y[k, c, left:right])
                else:
                    part = _products(dy[k, c, left:right], x[k, c, left:right], mean[c])
                total += part[0]
                products += part[1]
        inv_std = 1.0 / np.sqrt(var[c] + eps)
        dbeta[c], dgamma[c] = total, products * inv_std
        shift, slope = x.dtype.type(total / count), x.dtype.type(products * inv_std * inv_std / count)
        scale = x.dtype.type(gamma[c] * inv_std)
        for k in range(x.shape[0]):
            if relu:
                _relu_gradient(dy[k, c], x[k, c], mean[c], y[k, c], shift, slope, scale, dx[k, c])
            else:
                _gradient(dy[k, c], x[k, c], mean[c], shift, slope, scale, dx[k, c])


@reduction
def _sum(x: Any) -> Any:
    total = x.dtype.type(0)
    for i in range(len(x)):
        total += x[i]
    return total


@reduction
def _differences(x: Any, about: Any) -> Any:
    """Sums of differences from a value and of their squares."""
    rest = square = x.dtype.type(0)
    for i in range(len(x)):
        difference = x[i] - about
        rest += difference
        square += difference * difference
    return rest, square


@reduction
def _products(dy: Any, x: Any, mean: Any) -> Any:
    """Sums of gradients and of their products with differences from the mean."""
    total = product = x.dtype.type(0)
    for i in range(len(x)):
        total += dy[i]
        product += dy[i] * (x[i] - mean)
    return total, product


@reduction
def _relu_products(dy: Any, x: Any, mean: Any, y: Any) -> Any:
    zero = x.dtype.type(0)
    total = product = zero
    for i in range(len(x)):
        passed = dy[i] if y[i] > zero else zero
        total += passed
        product += passed * (x[i] - mean)
    return total, product


@inline
def _gradient(dy: Any, x: Any, mean: Any, shift: Any, slope: Any, scale: Any, dx: Any) -> None:
    for i in range(len(dx)):
        dx[i] = (dy[i] - shift - (x[i] - mean) * slope) * scale


@inline
def _relu_gradient(dy: Any, x: Any, mean: Any, y: Any, shift: Any, slope: Any, scale: Any, dx: Any) -> None:
    zero = x.dtype.type(0)
    for i in range(len(dx)):
        passed = dy[i] if y[i] > zero else zero
        dx[i] = (passed - shift - (x[i] - mean) * slope) * scale


@inline
def _scaled(x: Any, mean: Any, scale: Any, shift: Any, y: Any) -> None:
    for i in range(len(y)):
        y[i] = (x[i] - mean) * scale + shift


@inline
def _sum_with(x: Any, mean: Any, scale: Any, shift: Any, residual: Any, y: Any) -> None:
    for i in range(len(y)):
        y[i] = (x[i] - mean) * scale + shift + residual[i]


@inline
def _relu(x: Any, mean: Any, scale: Any, shift: Any, y: Any) -> None:
    zero = x.dtype.type(0)
    for i in range(len(y)):
        value = (x[i] - mean) * scale + shift
        # NaN stays NaN
        y[i] = value if not value < zero else zero


@inline
def _relu_of_sum(x: Any, mean: Any, scale: Any, shift: Any, residual: Any, y: Any) -> None:
    zero = x.dtype.type(0)
    for i in range(len(y)):
        value = (x[i] - mean) * scale + shift + residual[i]
        y[i] = value if not value < zero else zero
