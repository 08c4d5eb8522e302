"""Batch normalization: mean and variance of channels in one pass over memory, in two stages, then another for the output."""

from __future__ import annotations

import functools
import math
from typing import Any

from xpdl.backends.cupy.launch import (
    BLOCK,
    computing_dtype,
    contiguous,
    dtype_name,
    empty,
    kernel,
    launch,
    same_device,
    struct,
    supports,
)
from xpdl.backends.namespaces import Array
from xpdl.backends.registry import DECLINE

# Of features that lie side by side, a warp's width is read at once.
_LANES = 32
# Values that a thread adds up before another block is worth it, and the most blocks of a channel.
_VALUES = 16
_MOST_PARTS = 64


@kernel("batch_normalization")
def batch_normalization(
    x: Array, gamma: Array, beta: Array, eps: float, rectified: bool = False, addend: Array | None = None
) -> tuple[Array, Array, Array]:
    """As `xpdl.ops.normalization.batch_normalization`."""
    if not _served(_given(x, addend), gamma, beta):
        return DECLINE
    y, mean, var, *_ = _forward(x, gamma, beta, eps, rectified, addend)
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
    rectified: bool = False,
    addend: Array | None = None,
) -> tuple[Array, Array, Array, Array, Array]:
    """As `xpdl.ops.normalization.tracked_batch_normalization`."""
    if not _served(_given(x, addend), gamma, beta, running_mean, running_var):
        return DECLINE
    running = running_mean, running_var
    return _forward(x, gamma, beta, eps, rectified, addend, running, momentum)


def _forward(
    x: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    rectified: bool,
    addend: Array | None,
    running: tuple[Array, ...] = (),
    momentum: float = 0.0,
) -> Any:
    """The output, the statistics of the batch and, where there are `running` ones, new ones."""
    x = contiguous(x)
    plan = _plan(x.shape, x.dtype)
    sums, squares = plan.partial(), plan.partial()
    plan.launch("channel_moments", x, sums, squares)
    y = empty(x.shape, x.dtype)
    statistics = [empty(gamma.shape, computing_dtype(x.dtype)) for _ in range(2 + len(running))]
    given = (x, _computed(gamma), _computed(beta), float(eps), *_followed(rectified, addend), sums, squares, plan.parts)
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
    rectified: bool = False,
    addend: Array | None = None,
) -> Array:
    """As `xpdl.ops.normalization.normalize`."""
    if not _served(_given(x, addend), gamma, beta, mean, var):
        return DECLINE
    x = contiguous(x)
    y = empty(x.shape, x.dtype)
    given = (x, *map(_computed, (gamma, beta, mean, var)), float(eps), *_followed(rectified, addend))
    _plan(x.shape, x.dtype).launch("normalize", *given, y)
    return y


@kernel("batch_normalization_backward")
def batch_normalization_backward(
    dy: Array, x: Array, gamma: Array, mean: Array, var: Array, eps: float, y: Array | None = None
) -> tuple[Array, Array, Array]:
    """As `xpdl.ops.normalization.batch_normalization_backward`."""
    return _backward(dy, x, gamma, mean, var, eps, y, constant=False)


@kernel("normalize_backward")
def normalize_backward(
    dy: Array, x: Array, gamma: Array, mean: Array, var: Array, eps: float, y: Array | None = None
) -> tuple[Array, Array, Array]:
    """As `xpdl.ops.normalization.normalize_backward`."""
    return _backward(dy, x, gamma, mean, var, eps, y, constant=True)


def _backward(
    dy: Array, x: Array, gamma: Array, mean: Array, var: Array, eps: float, y: Array | None, *, constant: bool
) -> tuple[Array, Array, Array]:
    if not _served(_given(dy, x, y), gamma, mean, var):
        return DECLINE
    plan = _plan(dy.shape, dy.dtype)
    sums, products = plan.partial(), plan.partial()
    images = (contiguous(dy), contiguous(x), _or_null(y))
    statistics = (_computed(mean), _computed(var), float(eps))
    plan.launch("channel_products", *images, *statistics, sums, products)
    dx = empty(dy.shape, dy.dtype)
    dgamma, dbeta = (empty(gamma.shape, computing_dtype(dy.dtype)) for _ in range(2))
    given = (*images, _computed(gamma), *statistics, sums, products, plan.parts)
    plan.launch("batch_normalization_backward", *given, dx, dgamma, dbeta, int(constant))
    return dx, _as(gamma, dgamma), _as(gamma, dbeta)


def _given(*images: Array | None) -> tuple[Array, ...]:
    return tuple(a for a in images if a is not None)


def _or_null(a: Array | None) -> Any:
    return 0 if a is None else contiguous(a)


def _followed(rectified: bool, addend: Array | None) -> tuple[int, Any]:
    return int(rectified), _or_null(addend)


def _served(values: tuple[Array, ...], *of_channels: Array) -> bool:
    """Whether all are of one dtype, or `values`, alike, in half precision and what each channel has in that or float32."""
    first = values[0]
    if first.ndim < 2 or not supports(*values) or not same_device(first, *of_channels):
        return False
    dtypes, shape = (dtype_name(first.dtype), computing_dtype(first.dtype)), first.shape
    for a in values:
        if a.shape != shape:
            return False
    for a in of_channels:  # noqa: SIM110 - a generator takes three times as long
        if dtype_name(a.dtype) not in dtypes or not a.size:
            return False
    return True


def _computed(p: Array) -> Array:
    """`p` in the dtype that is computed with."""
    return contiguous(_as_dtype(p, computing_dtype(p.dtype)))


def _as(gamma: Array, p: Array) -> Array:
    return _as_dtype(p, dtype_name(gamma.dtype))


def _as_dtype(p: Array, dtype: str) -> Array:
    return p if dtype_name(p.dtype) == dtype else p.astype(dtype)


def bias_gradient(dy: Array) -> Array:
    """The sum of `dy` (N, C, ...) over all but axis 1."""
    dy = contiguous(dy)
    plan = _plan(dy.shape, dy.dtype)
    sums = plan.partial()
    plan.launch("channel_sums", dy, sums)
    if plan.parts == 1 and sums.dtype == dy.dtype:
        return sums[0]
    db = empty((dy.shape[1],), dy.dtype)
    # Channels are the last argument here too, but threads share the channels
    each_channel = -(-dy.shape[1] // BLOCK)
    launch(
        "normalization",
        "channel_totals",
        dtype_name(dy.dtype),
        (each_channel,),
        (BLOCK,),
        (sums, plan.parts, db, plan.channels),
        dy.size,
    )
    return db


class _Plan:
    """How the values of arrays (N, C, ...) are shared between threads: see ``cuda/normalization.cu``."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        n, c = shape[:2]
        self.size = math.prod(shape)
        inner = self.size // (n * c)
        lanes = _LANES if inner == 1 else 1
        rows = BLOCK // lanes
        self.dtype, self.computed = dtype_name(dtype), computing_dtype(dtype)
        self.channels: Any = struct("N C S", n, c, inner)
        self.parts = max(1, min(_MOST_PARTS, n * inner // (rows * _VALUES)))
        self.grid, self.block = (-(-c // lanes), self.parts), (lanes, rows)
        self._shape = (self.parts, c)

    def partial(self) -> Array:
        """For one value of each block."""
        return empty(self._shape, self.computed)

    def launch(self, name: str, *args: Any) -> None:
        launch("normalization", name, self.dtype, self.grid, self.block, (*args, self.channels), self.size)


@functools.lru_cache(maxsize=1024)
def _plan(shape: tuple[int, ...], dtype: Any) -> _Plan:
    return _Plan(shape, dtype)
