"""Positions of sequences and images as rows of a batch, for losses."""

from __future__ import annotations

import math

from xpdl.backends.namespaces import Array, array_namespace, device, on_its_device
from xpdl.ops.checks import require_labels, require_shape


def rows_of(x: Array) -> Array:
    """(..., K) as (positions, K)."""
    return array_namespace(x).reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


@on_its_device
def without_masked(x: Array, mask: Array) -> Array:
    """`x` (N, T, F) with zeros where `mask` (N, T) is False: 0 times NaN or infinity, as in a weight gradient, is NaN."""
    xp = array_namespace(x, mask)
    return xp.where(xp.expand_dims(mask, axis=-1), x, xp.zeros((), dtype=x.dtype, device=device(x)))


@on_its_device
def finite_or(x: Array, other: Array) -> Array:
    """`x`, and `other`, of the same shape, where it is NaN or infinite."""
    xp = array_namespace(x, other)
    return xp.where(xp.isfinite(x), x, other)


@on_its_device
def is_label(t: Array, label: int) -> Array:
    """Tell where labels are `label`: nowhere if their dtype lacks it, as -1 in uint8, which libraries take for 255."""
    xp = array_namespace(t)
    if xp.isdtype(t.dtype, "integral"):
        info = xp.iinfo(t.dtype)
        if not info.min <= label <= info.max:
            return xp.zeros_like(t, dtype=xp.bool)
    return xp.equal(t, label)


def flattened(
    x: Array, t: Array, weights: Array | None, ignore_label: int | None, owner: str
) -> tuple[Array, Array, Array | None]:
    """Make rows of the positions of a batch, those to ignore with a weight of 0.

    Parameters
    ----------
    x : array (..., K)
        Scores.
    t : array (...) of integers, or (..., K)
        Labels, or rows of weights over the classes.
    weights : array, optional
        Of the rows (N,), or of all positions (...).
    ignore_label : int, optional
        The label of positions that do not count.

    Returns
    -------
    x : array (positions, K)
    t : array (positions,) or (positions, K)
    weights : array (positions,) or None
    """
    if x.ndim == 2 and ignore_label is None:
        return x, t, weights
    return _flattened(x, t, weights, ignore_label, owner)


@on_its_device
def _flattened(
    x: Array, t: Array, weights: Array | None, ignore_label: int | None, owner: str
) -> tuple[Array, Array, Array | None]:
    xp, places = array_namespace(x, t, weights, owner=owner), x.shape[:-1]
    has_labels = t.ndim < x.ndim
    what = f"t, labels or one-hot rows for scores of shape {tuple(x.shape)},"
    require_shape(t, places if has_labels else x.shape, owner, what)
    if weights is not None:
        weights = _of_positions(weights, places, owner)
    if ignore_label is not None and has_labels:
        require_labels(xp.zeros_like(t[:0, ...]), x.shape[-1], owner)  # the dtype
        ignored = is_label(t, ignore_label)
        t = xp.where(ignored, 0, t)
        own = xp.astype(xp.logical_not(ignored), x.dtype)
        weights = own if weights is None else own * xp.astype(weights, x.dtype)
    size = math.prod(places)
    t = xp.reshape(t, (size,)) if has_labels else rows_of(t)
    return rows_of(x), t, None if weights is None else xp.reshape(weights, (size,))


def _of_positions(weights: Array, places: tuple[int, ...], owner: str) -> Array:
    """Weights of rows, or of positions, as an array with one for each position."""
    if tuple(weights.shape) == tuple(places):
        return weights
    rows = f"sample_weight, one for each row {tuple(places[:1])} or position,"
    require_shape(weights, places if weights.ndim > 1 else places[:1], owner, rows)
    xp = array_namespace(weights)
    return xp.broadcast_to(xp.reshape(weights, (places[0], *(1,) * (len(places) - 1))), places)
