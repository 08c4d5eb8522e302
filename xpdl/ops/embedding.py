"""Embedding: rows of a table by their numbers, and sums of gradients over equal numbers."""

from __future__ import annotations

import math

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, device, rounded_to, widened


@op
def embedding(W: Array, ids: Array) -> Array:
    """Take the rows of a table.

    Parameters
    ----------
    W : array (count, units)
    ids : array (...) of integers
        Numbers of rows. An id outside of ``[0, count)`` gives NaN: to find it would be to read every id.

    Returns
    -------
    array (..., units)
    """
    xp = array_namespace(W, ids)
    flat = _flat(W, ids)
    is_row = (flat >= 0) & (flat < W.shape[0])
    rows = xp.take(W, xp.where(is_row, flat, 0), axis=0)
    return xp.reshape(xp.where(xp.expand_dims(is_row, axis=-1), rows, math.nan), (*ids.shape, W.shape[1]))


@op
def embedding_backward(dy: Array, ids: Array, count: int) -> Array:
    """Add up the gradients of each row of the table.

    The gradients are sorted by their ids, which makes segments of them, and the sums of all segments are computed at once,
    by adding values at distances 1, 2, 4... of the same segment. There are no atomic additions, whose order is left to
    chance: results are bitwise reproducible.

    Parameters
    ----------
    dy : array (..., units)
    ids : array (...) of integers
    count : int
        Rows of the table.

    Returns
    -------
    array (count, units)
        0 in rows that no id names.
    """
    xp = array_namespace(dy, ids)
    flat, dtype = _flat(dy, ids), dy.dtype
    rows = widened(xp.reshape(dy, (flat.shape[0], dy.shape[-1])))
    if flat.shape[0] == 0:
        return xp.zeros((count, dy.shape[-1]), dtype=dtype, device=device(dy))
    order = xp.argsort(flat)
    ids, sums = xp.take(flat, order), xp.take(rows, order, axis=0)
    distance = 1
    while distance < ids.shape[0]:
        same = xp.expand_dims(ids[distance:] == ids[:-distance], axis=-1)
        more = xp.where(same, sums[:-distance, ...], 0.0)
        sums = xp.concat([sums[:distance, ...], sums[distance:, ...] + more])
        distance *= 2
    # the last of a segment has the sum of all
    wanted = xp.arange(count, dtype=ids.dtype, device=device(ids))
    last = xp.maximum(xp.searchsorted(ids, wanted, side="right") - 1, 0)
    is_there = xp.expand_dims(xp.take(ids, last) == wanted, axis=-1)
    return rounded_to(dtype, xp.where(is_there, xp.take(sums, last, axis=0), 0.0))


def _flat(beside: Array, ids: Array) -> Array:
    """`ids` in one row, in the library's default integers: a dtype such as uint8 need not hold every number of a row."""
    xp = array_namespace(ids)
    flat = xp.reshape(ids, (math.prod(ids.shape),))
    return xp.astype(flat, xp.arange(1, device=device(beside)).dtype, copy=False)
