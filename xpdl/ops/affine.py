"""The affine map y = x W + b."""

from __future__ import annotations

import math

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.ops.activations import relu
from xpdl.ops.precision import summed


def _rows(x: Array) -> Array:
    """(N, ...) -> (N, D)."""
    return x if x.ndim == 2 else array_namespace(x).reshape(x, (-1, math.prod(x.shape[1:])))


@op
def affine(x: Array, W: Array, b: Array | None = None) -> Array:
    """``x W + b`` with `x` (N, ...) flattened to (N, D), `W` (D, M) and `b` (M,), giving (N, M)."""
    xp = array_namespace(x, W, b)
    y = xp.matmul(_rows(x), W)
    return y if b is None else y + b


@op
def rectified_affine(x: Array, W: Array, b: Array | None = None) -> Array:
    """`relu` of `affine`, which a kernel computes in one go; backward is that of the one after that of the other."""
    return relu(affine(x, W, b))


@op
def affine_backward(
    dy: Array, x: Array, W: Array, *, need_dx: bool = True, need_db: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """``dx`` in the shape of `x`, ``dW`` (D, M) and ``db`` (M,) for `dy` (N, M).

    ``dx`` is None when `need_dx` is false, as in a first layer, whose input is data; ``db`` when `need_db` is, as in a
    layer without a bias.
    """
    xp = array_namespace(dy, x, W)
    dx = xp.reshape(xp.matmul(dy, W.T), x.shape) if need_dx else None
    return dx, xp.matmul(_rows(x).T, dy), summed(xp, dy, 0) if need_db else None
