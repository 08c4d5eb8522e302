"""Joining of arrays along an axis, and parts of them."""

from __future__ import annotations

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, device


def concatenate(arrays: list[Array], axis: int = 1) -> Array:
    """Join arrays along an axis.

    Parameters
    ----------
    arrays : list of array (...)
        Of one shape but for the size along `axis`.
    axis : int

    Returns
    -------
    array (...)
    """
    return array_namespace(*arrays).concat(arrays, axis=axis)


def concatenate_backward(dout: Array, sizes: tuple[int, ...], axis: int = 1) -> list[Array]:
    """Compute the gradient of each array of `concatenate`, a part of `dout`.

    Parameters
    ----------
    dout : array (...)
    sizes : tuple of int
        Of the arrays along `axis`.
    axis : int

    Returns
    -------
    list of array (...)
    """
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    return [part(dout, start, start + size, axis) for start, size in zip(starts, sizes, strict=True)]


@op
def part(x: Array, start: int, stop: int, axis: int = 1) -> Array:
    """Take the entries from `start` up to `stop` along an axis.

    Parameters
    ----------
    x : array (...)
    start, stop : int
        At least 0 and at most the size of the axis.
    axis : int

    Returns
    -------
    array (...)
    """
    return x[(slice(None),) * (axis % x.ndim) + (slice(start, stop), ...)]


@op
def part_backward(dout: Array, size: int, start: int, axis: int = 1) -> Array:
    """Compute the gradient of the input of `part`: `dout` among zeros.

    Parameters
    ----------
    dout : array (...)
    size : int
        Of the input along `axis`.
    start : int
    axis : int

    Returns
    -------
    array (...)
    """
    xp, axis = array_namespace(dout), axis % dout.ndim

    def zeros(count: int) -> Array:
        shape = (*dout.shape[:axis], count, *dout.shape[axis + 1 :])
        return xp.zeros(shape, dtype=dout.dtype, device=device(dout))

    return xp.concat([zeros(start), dout, zeros(size - start - dout.shape[axis])], axis=axis)
