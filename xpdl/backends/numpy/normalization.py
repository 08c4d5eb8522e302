"""Batch normalisation of images, some channels at a time: a channel's values stay in the cache from pass to pass."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xpdl.backends.dispatch import DECLINE, kernel
from xpdl.backends.numpy import memory, threads

Host = np.ndarray[Any, Any]

# Elements of a task.
_TASK_SIZE = 1 << 18
# Elements of NumPy's buffer: 8192 by default. Forward takes 2.2 ms with that and 1.6 ms with this, for (100, 16, 32, 32).
_BUFFER = 512


@kernel("numpy", "batch_normalization")
def batch_normalization(x: Host, gamma: Host, beta: Host, eps: float) -> tuple[Host, Host, Host, Host, Host]:
    """As `xpdl.ops.normalization.batch_normalization`."""
    lines = _lines(x)
    if lines is None or not gamma.dtype == beta.dtype == x.dtype:
        return DECLINE  # type: ignore[no-any-return]
    y, x_hat = memory.empty_like(x), memory.empty_like(x)
    y_lines, hat_lines = _lines(y), _lines(x_hat)
    mean, var, inv_std = (np.empty(x.shape[1], x.dtype) for _ in range(3))
    count = x.size // x.shape[1]

    def task(part: slice) -> None:
        scaled, centred = y_lines[:, part], hat_lines[:, part]
        mean[part] = lines[:, part].sum(axis=2).sum(axis=0) / count
        np.subtract(lines[:, part], mean[part, np.newaxis], out=centred)
        var[part] = np.vecdot(centred, centred).sum(axis=0) / count
        inv_std[part] = 1.0 / np.sqrt(var[part] + eps)
        centred *= inv_std[part, np.newaxis]
        np.multiply(centred, gamma[part, np.newaxis], out=scaled)
        scaled += beta[part, np.newaxis]

    _over_channels(task, lines)
    return y, x_hat, inv_std, mean, var


@kernel("numpy", "batch_normalization_backward")
def batch_normalization_backward(dy: Host, x_hat: Host, inv_std: Host, gamma: Host) -> tuple[Host, Host, Host]:
    """As `xpdl.ops.normalization.batch_normalization_backward`."""
    lines = _lines(x_hat)
    if lines is None or not dy.dtype == gamma.dtype == x_hat.dtype:
        return DECLINE  # type: ignore[no-any-return]
    dx = memory.empty_like(x_hat)
    dx_lines = _lines(dx)
    dgamma, dbeta = np.empty_like(inv_std), np.empty_like(inv_std)
    dy_lines = _lines(dy) if dy.strides == x_hat.strides else None
    if dy_lines is None:
        ordered = memory.empty_like(x_hat)
        ordered[...] = dy
        dy_lines = _lines(ordered)
    count = x_hat.size // x_hat.shape[1]

    def task(part: slice) -> None:
        d, hat, into = dy_lines[:, part], lines[:, part], dx_lines[:, part]
        dbeta[part] = d.sum(axis=2).sum(axis=0)
        dgamma[part] = np.vecdot(d, hat).sum(axis=0)
        np.multiply(hat, (-dgamma[part] / count)[:, np.newaxis], out=into)
        into += d
        into -= (dbeta[part] / count)[:, np.newaxis]
        into *= (gamma[part] * inv_std[part])[:, np.newaxis]

    _over_channels(task, lines)
    return dx, dgamma, dbeta


def _lines(x: Host) -> Any:
    """Images as a view (outer, C, inner) whose last axis is contiguous, from either order of memory; None from others."""
    if x.ndim != 4 or x.dtype.type not in (np.float32, np.float64) or not x.size:
        return None
    n, c, h, w = x.shape
    if x.flags.c_contiguous:
        return x.reshape(n, c, h * w)
    inner = x.transpose(2, 1, 3, 0)
    return inner.reshape(h, c, w * n) if inner.flags.c_contiguous else None


def _over_channels(task: Callable[[slice], None], lines: Host) -> None:
    channels = lines.shape[1]
    count = max(1, min(channels, lines.size // _TASK_SIZE))
    edges = [channels * k // count for k in range(count + 1)]
    threads.run([functools.partial(_with_small_buffers, task, slice(*edges[k : k + 2])) for k in range(count)])


def _with_small_buffers(task: Callable[[slice], None], part: slice) -> None:
    """NumPy copies an operand that is one number for a whole line to a buffer; the shorter that is, the quicker."""
    before = np.setbufsize(_BUFFER)
    try:
        task(part)
    finally:
        np.setbufsize(before)
