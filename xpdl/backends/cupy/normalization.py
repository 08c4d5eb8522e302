"""Batch normalization: sums along channels in two stages, then one pass over memory."""

from __future__ import annotations

from typing import Any

from xpdl.backends.cupy.launch import BLOCK, computing_dtype, empty, kernel, launch, named, ready, served, struct
from xpdl.backends.dispatch import DECLINE
from xpdl.backends.namespaces import Array

# Of features that lie side by side, a warp's width is read at once.
_LANES = 32
# Values that a thread adds up before another block is worth it, and the most blocks of a channel.
_VALUES = 16
_MOST_PARTS = 64


@kernel("batch_normalization")
def batch_normalization(x: Array, gamma: Array, beta: Array, eps: float) -> tuple[Array, Array, Array, Array, Array]:
    """As `xpdl.ops.normalization.batch_normalization`."""
    if not served(x, gamma, beta) or x.ndim < 2:
        return DECLINE  # type: ignore[no-any-return]
    x = ready(x)
    plan = _Plan(x)
    sums, squares = plan.partial(), plan.partial()
    plan.launch("channel_sums", x, sums)
    plan.launch("channel_squares", x, sums, plan.parts, squares)
    y, x_hat = empty(x.shape, x.dtype), empty(x.shape, x.dtype)
    inv_std, mean, var = (empty(gamma.shape, x.dtype) for _ in range(3))
    given = (x, ready(gamma), ready(beta), float(eps), sums, squares, plan.parts)
    plan.launch("batch_normalization", *given, y, x_hat, inv_std, mean, var)
    return y, x_hat, inv_std, mean, var


@kernel("normalize")
def normalize(x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float) -> tuple[Array, Array, Array]:
    """As `xpdl.ops.normalization.normalize`."""
    if not served(x, gamma, beta, mean, var) or x.ndim < 2:
        return DECLINE  # type: ignore[no-any-return]
    x = ready(x)
    y, x_hat, inv_std = empty(x.shape, x.dtype), empty(x.shape, x.dtype), empty(gamma.shape, x.dtype)
    _Plan(x).launch("normalize", x, *map(ready, (gamma, beta, mean, var)), float(eps), y, x_hat, inv_std)
    return y, x_hat, inv_std


@kernel("batch_normalization_backward")
def batch_normalization_backward(dy: Array, x_hat: Array, inv_std: Array, gamma: Array) -> tuple[Array, Array, Array]:
    """As `xpdl.ops.normalization.batch_normalization_backward`."""
    return _backward(dy, x_hat, inv_std, gamma, constant=False)


@kernel("normalize_backward")
def normalize_backward(dy: Array, x_hat: Array, inv_std: Array, gamma: Array) -> tuple[Array, Array, Array]:
    """As `xpdl.ops.normalization.normalize_backward`."""
    return _backward(dy, x_hat, inv_std, gamma, constant=True)


def _backward(dy: Array, x_hat: Array, inv_std: Array, gamma: Array, *, constant: bool) -> tuple[Array, Array, Array]:
    if not served(dy, x_hat, inv_std, gamma) or dy.ndim < 2 or dy.shape != x_hat.shape:
        return DECLINE  # type: ignore[no-any-return]
    dy, x_hat = ready(dy), ready(x_hat)
    plan = _Plan(dy)
    sums, products = plan.partial(), plan.partial()
    plan.launch("channel_products", dy, x_hat, sums, products)
    dx, dgamma, dbeta = empty(dy.shape, dy.dtype), empty(gamma.shape, dy.dtype), empty(gamma.shape, dy.dtype)
    given = (dy, x_hat, ready(inv_std), ready(gamma), sums, products, plan.parts)
    plan.launch("batch_normalization_backward", *given, dx, dgamma, dbeta, int(constant))
    return dx, dgamma, dbeta


def bias_gradient(dy: Array) -> Array:
    """The sum of `dy` (N, C, ...) over all but axis 1."""
    dy = ready(dy)
    plan = _Plan(dy)
    sums, db = plan.partial(), empty((dy.shape[1],), dy.dtype)
    plan.launch("channel_sums", dy, sums)
    # Channels are the last argument here too, but threads share the channels
    each_channel = -(-dy.shape[1] // BLOCK)
    launch(
        "normalization",
        "channel_totals",
        named(dy.dtype),
        (each_channel,),
        (BLOCK,),
        (sums, plan.parts, db, plan.channels),
        dy.size,
    )
    return db


class _Plan:
    """How the values of `x` (N, C, ...) are shared between threads: see ``cuda/normalization.cu``."""

    def __init__(self, x: Array) -> None:
        n, c = x.shape[:2]
        inner = x.size // (n * c)
        lanes = _LANES if inner == 1 else 1
        rows = BLOCK // lanes
        self.dtype, self.size = x.dtype, x.size
        self.channels: Any = struct("N C S", n, c, inner)
        self.parts = max(1, min(_MOST_PARTS, n * inner // (rows * _VALUES)))
        self.grid, self.block = (-(-c // lanes), self.parts), (lanes, rows)
        self._shape = (self.parts, c)

    def partial(self) -> Array:
        """For one sum of each block."""
        return empty(self._shape, computing_dtype(self.dtype))

    def launch(self, name: str, *args: Any) -> None:
        launch("normalization", name, named(self.dtype), self.grid, self.block, (*args, self.channels), self.size)
