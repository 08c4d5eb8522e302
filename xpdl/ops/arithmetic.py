"""Sums and products of arrays as they meet in a net."""

from __future__ import annotations

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, on_its_device, rounded_to, widened
from xpdl.ops.epilogues import activated


@op
def add(x: Array, y: Array, *, activation: str | None = None) -> Array:
    """Compute ``x + y``, or relu of it, for arrays of one shape.

    Parameters
    ----------
    x, y : array (...)
    activation : "relu", optional
        Applied to the sum, in the same pass over memory where a kernel does that.

    Returns
    -------
    array (...)
    """
    return activated(x + y, activation)


@op
def multiply(x: Array, y: Array) -> Array:
    """Compute ``x * y`` for arrays of one shape, or with axes of size 1 that are repeated.

    Parameters
    ----------
    x, y : array (...)

    Returns
    -------
    array (...)
    """
    return x * y


@op
def multiply_backward(dout: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Compute the gradients of both factors of `multiply`.

    Parameters
    ----------
    dout : array (...)
    x, y : array (...)
        The factors.

    Returns
    -------
    dx, dy : array (...)
        In the shapes of `x` and `y`; in half precision, products are added up in float32.
    """
    dtype, dout = dout.dtype, widened(dout)
    dx, dy = sum_to(dout * widened(y), tuple(x.shape)), sum_to(dout * widened(x), tuple(y.shape))
    return rounded_to(dtype, dx), rounded_to(dtype, dy)


@on_its_device
def sum_to(dout: Array, shape: tuple[int, ...]) -> Array:
    """Sum `dout` over the axes along which an array of `shape` was repeated: the gradient of that array.

    Parameters
    ----------
    dout : array (...)
    shape : tuple of int
        As long as that of `dout`, with 1 where it was repeated.

    Returns
    -------
    array of `shape`
        Half precision is added up in float32.
    """
    repeated = tuple(axis for axis, size in enumerate(shape) if size == 1 and dout.shape[axis] != 1)
    if not repeated:
        return dout
    return rounded_to(dout.dtype, array_namespace(dout).sum(widened(dout), axis=repeated, keepdims=True))
