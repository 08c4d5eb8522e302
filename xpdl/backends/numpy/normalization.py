"""Batch normalisation of images, some channels at a time: a channel's values stay in the cache from pass to pass.

Images are (outer, C, inner) here, without gaps: (N, C, H * W) as users have them, (H, C, W * N) with images innermost. Work
on a few channels, `_forward` and `_backward` and `_normalize`, is given to NumPy's functions or to compiled ones.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from xpdl.backends.cpu import buffer_pool, thread_pool
from xpdl.backends.cpu.contiguous import FLOATS, read_only
from xpdl.backends.cpu.partition import cut
from xpdl.backends.epilogues import is_relu, relu_output
from xpdl.backends.numba import loading
from xpdl.backends.numpy import batch_norm_2d
from xpdl.backends.numpy.elementwise import bits
from xpdl.backends.registry import DECLINE, kernel

Host = np.ndarray[Any, Any]
Work = Callable[..., None]

# Elements of a task.
_TASK_SIZE = 1 << 17
# Elements that stay in the cache of a core, in two arrays.
_CACHED = 1 << 16
# Elements of NumPy's buffer: 8192 by default. Forward takes 2.2 ms with that and 1.6 ms with this, for (100, 16, 32, 32).
_BUFFER = 512


@kernel("numpy", "batch_normalization")
def batch_normalization(
    x: Host,
    gamma: Host,
    beta: Host,
    eps: float,
    *,
    activation: str | None = None,
    residual: Host | None = None,
) -> tuple[Host, Host, Host]:
    """As `xpdl.ops.normalization.batch_normalization`."""
    relu = is_relu(activation)
    if x.ndim == 2 and residual is None:
        return batch_norm_2d.batch_normalization(x, gamma, beta, eps, relu)
    lines = _lines(x)
    if lines is None or any(a is not None and a.dtype != x.dtype for a in (gamma, beta, residual)):
        return DECLINE
    y = buffer_pool.empty_like(x)
    mean, var = (np.empty(x.shape[1], x.dtype) for _ in range(2))
    code = loading.load("xpdl.backends.numba.normalization")
    work: Work = _forward if code is None else code.forward
    # without a residual another array stands for it, and is not read
    added = lines if residual is None else _lines_as(residual, x)
    given = (
        *map(read_only, (lines, gamma, beta)),
        float(eps),
        relu,
        read_only(added),
        residual is not None,
    )
    into = (_lines(y), mean, var)
    thread_pool.run([functools.partial(work, *given, *part, *into) for part in _parts(lines)])
    return y, mean, var


@kernel("numpy", "batch_normalization_backward")
def batch_normalization_backward(
    dy: Host,
    x: Host,
    gamma: Host,
    mean: Host,
    var: Host,
    eps: float,
    *,
    y: Host | None = None,
    activation: str | None = None,
) -> tuple[Host, Host, Host]:
    """As `xpdl.ops.normalization.batch_normalization_backward`."""
    y = relu_output(activation, y)
    if x.ndim == 2:
        return batch_norm_2d.batch_normalization_backward(dy, x, gamma, mean, var, eps, y)
    lines = _lines(x)
    if lines is None or any(a is not None and a.dtype != x.dtype for a in (dy, gamma, mean, var, y)):
        return DECLINE
    dx = buffer_pool.empty_like(x)
    dgamma, dbeta = (np.empty(x.shape[1], x.dtype) for _ in range(2))
    dy_lines = _lines_as(dy, x)
    # as above, without a relu
    y_lines = dy_lines if y is None else _lines_as(y, x)
    code = loading.load("xpdl.backends.numba.normalization")
    work: Work = _backward if code is None else code.backward
    given = (*map(read_only, (dy_lines, lines, y_lines, gamma, mean, var)), float(eps), y is not None)
    into = (_lines(dx), dgamma, dbeta)
    thread_pool.run([functools.partial(work, *given, *part, *into) for part in _parts(lines)])
    return dx, dgamma, dbeta


@kernel("numpy", "normalize")
def normalize(
    x: Host,
    gamma: Host,
    beta: Host,
    mean: Host,
    var: Host,
    eps: float,
    *,
    activation: str | None = None,
    residual: Host | None = None,
) -> Host:
    """As `xpdl.ops.normalization.normalize`."""
    relu = is_relu(activation)
    if x.ndim == 2 and residual is None:
        return batch_norm_2d.normalize(x, gamma, beta, mean, var, eps, relu)
    lines = _lines(x)
    if lines is None or any(a is not None and a.dtype != x.dtype for a in (gamma, beta, mean, var, residual)):
        return DECLINE
    y = buffer_pool.empty_like(x)
    scale = gamma / np.sqrt(var + x.dtype.type(eps))
    code = loading.load("xpdl.backends.numba.normalization")
    work: Work = _normalize if code is None else code.normalize
    added = lines if residual is None else _lines_as(residual, x)
    given = (
        *map(read_only, (lines, mean, scale, beta)),
        relu,
        read_only(added),
        residual is not None,
    )
    into = _lines(y)
    # nothing is summed: a block without gaps in memory is as good as any
    outer, channels, inner = lines.shape
    rows = cut(outer, max(1, _CACHED // (channels * inner)))
    blocks = itertools.product(rows, cut(channels, max(1, min(channels, _CACHED // inner))))
    thread_pool.run([functools.partial(work, *given, a.start, a.stop, b.start, b.stop, into) for a, b in blocks])
    return y


def _lines(x: Host) -> Any:
    """Images as a view (outer, C, inner) without gaps, from either order of memory; None from others."""
    if x.ndim != 4 or x.dtype not in FLOATS or not x.size:
        return None
    n, c, h, w = x.shape
    if x.flags.c_contiguous:
        return x.reshape(n, c, h * w)
    inner = x.transpose(2, 1, 3, 0)
    return inner.reshape(h, c, w * n) if inner.flags.c_contiguous else None


def _lines_as(a: Host, x: Host) -> Any:
    """The lines of `a`, in the order of memory of `x`."""
    lines = _lines(a) if a.flags.c_contiguous == x.flags.c_contiguous else None
    if lines is None:
        ordered = buffer_pool.empty_like(x)
        ordered[...] = a
        lines = _lines(ordered)
    return lines


def _parts(lines: Host) -> list[tuple[int, int]]:
    """The channels of each task, the first of them and the end."""
    channels = lines.shape[1]
    count = max(1, min(channels, lines.size // _TASK_SIZE))
    return list(itertools.pairwise(channels * k // count for k in range(count + 1)))


def _with_small_buffers(work: Work) -> Work:
    """NumPy copies an operand that is one number for a whole line to a buffer; the shorter that is, the quicker."""

    @functools.wraps(work)
    def call(*args: Any) -> None:
        before = np.setbufsize(_BUFFER)
        try:
            work(*args)
        finally:
            np.setbufsize(before)

    return call


@_with_small_buffers
def _forward(
    x: Host,
    gamma: Host,
    beta: Host,
    eps: float,
    relu: bool,
    residual: Host,
    adds: bool,
    start: int,
    stop: int,
    y: Host,
    mean: Host,
    var: Host,
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
    dy: Host,
    x: Host,
    y: Host,
    gamma: Host,
    mean: Host,
    var: Host,
    eps: float,
    relu: bool,
    start: int,
    stop: int,
    dx: Host,
    dgamma: Host,
    dbeta: Host,
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
    x: Host,
    mean: Host,
    scale: Host,
    beta: Host,
    relu: bool,
    residual: Host,
    adds: bool,
    top: int,
    bottom: int,
    start: int,
    stop: int,
    y: Host,
) -> None:
    x, y = x[top:bottom, start:stop], y[top:bottom, start:stop]
    np.subtract(x, mean[start:stop, np.newaxis], out=y)
    y *= scale[start:stop, np.newaxis]
    y += beta[start:stop, np.newaxis]
    if adds:
        y += residual[top:bottom, start:stop]
    if relu:
        np.maximum(y, 0.0, out=y)
