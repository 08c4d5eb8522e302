"""The affine map y = x W + b."""

from __future__ import annotations

import math

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.ops.epilogues import activated, before_activation
from xpdl.ops.precision import summed


def _rows(x: Array) -> Array:
    """(N, ...) -> (N, D)."""
    return x if x.ndim == 2 else array_namespace(x).reshape(x, (-1, math.prod(x.shape[1:])))


@op
def affine(x: Array, W: Array, b: Array | None = None, *, activation: str | None = None) -> Array:
    """Compute ``x W + b``, or relu of it.

    Parameters
    ----------
    x : array (N, ...)
        Flattened to (N, D).
    W : array (D, M)
    b : array (M,), optional
    activation : "relu", optional
        Applied to the result, in the same pass over memory where a kernel does that.

    Returns
    -------
    array (N, M)
    """
    xp = array_namespace(x, W, b)
    y = xp.matmul(_rows(x), W)
    return activated(y if b is None else y + b, activation)


@op
def affine_backward(
    dy: Array,
    x: Array,
    W: Array,
    *,
    y: Array | None = None,
    activation: str | None = None,
    need_dx: bool = True,
    need_db: bool = True,
) -> tuple[Array | None, Array, Array | None]:
    """Compute the gradients of `affine` for `dy` (N, M).

    Parameters
    ----------
    y : array (N, M), optional
        The output of the forward pass, which an `activation` needs.
    activation : "relu", optional
        That of the forward pass.
    need_dx, need_db : bool
        False in a first layer, whose input is data, and in a layer without a bias.

    Returns
    -------
    dx : array of the shape of `x`, or None without `need_dx`
    dW : array (D, M)
    db : array (M,), or None without `need_db`
    """
    xp = array_namespace(dy, x, W)
    dy = before_activation(dy, y, activation)
    dx = xp.reshape(xp.matmul(dy, W.T), x.shape) if need_dx else None
    return dx, xp.matmul(_rows(x).T, dy), summed(xp, dy, 0) if need_db else None


def affine_backward_input(dy: Array, W: Array, *, y: Array | None = None, activation: str | None = None) -> Array:
    """Compute the gradient (N, D) of the rows alone, as of a layer that is frozen: ``dy W^T``.

    Parameters are those of `affine_backward`.
    """
    return affine(before_activation(dy, y, activation), array_namespace(W).matrix_transpose(W))
