"""Batch normalisation of images by NumPy's functions, some channels at a time, which stay in the cache from pass to pass."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu import batch_norm, buffer_pool
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.epilogues import is_relu, relu_output
from xpdl.backends.numpy.elementwise import bits
from xpdl.backends.registry import kernel


@kernel("numpy", "batch_normalization")
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
    return batch_norm.forward(_forward, x, gamma, beta, eps, is_relu(activation), residual)


@kernel("numpy", "batch_normalization_backward")
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
    return batch_norm.backward(_backward, dy, x, gamma, mean, var, eps, y)


@kernel("numpy", "normalize")
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
    return batch_norm.normalize(_normalize, x, gamma, beta, mean, var, eps, is_relu(activation), residual)


def _with_small_buffers(work: batch_norm.Work) -> batch_norm.Work:
    """NumPy copies an operand that is one number for a whole line to a buffer; the shorter that is, the quicker."""

    @functools.wraps(work)
    def call(*args: Any) -> None:
        before = np.setbufsize(TUNING.batch_norm_ufunc_buffer)
        try:
            work(*args)
        finally:
            np.setbufsize(before)

    return call


@_with_small_buffers
def _forward(
    x: NDArray,
    gamma: NDArray,
    beta: NDArray,
    eps: float,
    relu: bool,
    residual: NDArray,
    adds: bool,
    start: int,
    stop: int,
    y: NDArray,
    mean: NDArray,
    var: NDArray,
) -> None:
    part = slice(start, stop)
    x, y = x[:, part], y[:, part]
    count = x.shape[0] * x.shape[2]
    mean[part] = x.sum(axis=2).sum(axis=0) / count
    np.subtract(x, mean[part, np.newaxis], out=y)
    var[part] = np.vecdot(y, y).sum(axis=0) / count
    y *= (gamma[part] / np.sqrt(var[part] + eps))[:, np.newaxis]
    y += beta[part, np.newaxis]
    if adds:
        y += residual[:, part]
    if relu:
        np.maximum(y, 0.0, out=y)


@_with_small_buffers
def _backward(
    dy: NDArray,
    x: NDArray,
    y: NDArray,
    gamma: NDArray,
    mean: NDArray,
    var: NDArray,
    eps: float,
    relu: bool,
    start: int,
    stop: int,
    dx: NDArray,
    dgamma: NDArray,
    dbeta: NDArray,
) -> None:
    part = slice(start, stop)
    dy, x, dx = dy[:, part], x[:, part], dx[:, part]
    count = x.shape[0] * x.shape[2]
    if relu:
        masked = buffer_pool.empty(dy.shape, dy.dtype)
        np.multiply(bits(dy), y[:, part] > 0, out=bits(masked))
        dy = masked
    inv_std = 1.0 / np.sqrt(var[part] + eps)
    dbeta[part] = dy.sum(axis=2).sum(axis=0)
    np.subtract(x, mean[part, np.newaxis], out=dx)
    dgamma[part] = np.vecdot(dy, dx).sum(axis=0) * inv_std
    dx *= (-dgamma[part] * inv_std / count)[:, np.newaxis]
    dx += dy
    dx -= (dbeta[part] / count)[:, np.newaxis]
    dx *= (gamma[part] * inv_std)[:, np.newaxis]


@_with_small_buffers
def _normalize(
    x: NDArray,
    mean: NDArray,
    scale: NDArray,
    beta: NDArray,
    relu: bool,
    residual: NDArray,
    adds: bool,
    top: int,
    bottom: int,
    start: int,
    stop: int,
    y: NDArray,
) -> None:
    x, y = x[top:bottom, start:stop], y[top:bottom, start:stop]
    np.subtract(x, mean[start:stop, np.newaxis], out=y)
    y *= scale[start:stop, np.newaxis]
    y += beta[start:stop, np.newaxis]
    if adds:
        y += residual[top:bottom, start:stop]
    if relu:
        np.maximum(y, 0.0, out=y)
