"""Compute many rows batch by batch, so that the memory taken is that of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xpdl.backends.cpu.partition import split
from xpdl.backends.namespaces import Array, array_namespace, is_array
from xpdl.data.structure import first_array, take_rows
from xpdl.errors import ShapeError
from xpdl.ops.checks import positive_int
from xpdl.ops.losses import batch_rows


def batched(function: Callable[[Any], Any], x: Any, batch_size: int) -> Any:
    """``function(x)``, computed on at most `batch_size` rows at a time and joined along axis 0.

    `x` and what `function` returns are arrays, or tuples or dicts of arrays. Batches are of about equal length: a short last
    one would take nearly as long as a full one.
    """
    rows = rows_of(x)
    if rows <= batch_size:
        return function(x)
    count = -(-rows // batch_size)
    return joined([function(take_rows(x, part.start, part.stop)) for part in split(rows, count)])


def rows_of(x: Any) -> int:
    """The number of rows of an array, or of the first of several; 0 of what has none."""
    first = first_array(x)
    return int(first.shape[0]) if is_array(first) and first.ndim else 0


def joined(pieces: Sequence[Any]) -> Any:
    """Join arrays, or tuples or dicts of arrays of one form, along axis 0."""
    first = pieces[0]
    if isinstance(first, Mapping):
        return {key: joined([one[key] for one in pieces]) for key in first}
    if isinstance(first, tuple):
        return tuple(joined(column) for column in zip(*pieces, strict=True))
    return array_namespace(*pieces).concat(list(pieces))


def count_right(hits: Array, counted: Array | None) -> tuple[Array, Array | int]:
    """Return how many decisions are right, of how many that count; on their device."""
    xp = array_namespace(hits)  # whose sums are in int32, as JAX has no int64 by default
    if counted is None:
        return xp.sum(xp.astype(hits, xp.int32)), math.prod(hits.shape)
    return xp.sum(xp.astype(hits & counted, xp.int32)), xp.sum(xp.astype(counted, xp.int32))


def share_correct(
    correct: Callable[[Any, Array], tuple[Array, Array | None]], x: Any, t: Array, batch_size: int, owner: str
) -> float:
    """Share of the decisions on rows of `x` that are as `t` says.

    `correct` gives the decisions that are right, and those that count, as booleans; see `LossLayer`. They are counted on
    their device, and read once.
    """
    batch_size = positive_int(batch_size, "batch_size", owner)
    rows = batch_rows(first_array(x), owner)
    if batch_rows(t, owner) != rows:
        raise ShapeError(f"{owner}: {rows} rows of x, but {t.shape[0]} of t")
    right: Any = 0
    decisions: Any = 0
    for start in range(0, rows, batch_size):
        end = min(start + batch_size, rows)
        hits, all_of_them = count_right(*correct(*take_rows((x, t), start, end)))
        right, decisions = right + hits, decisions + all_of_them
    return float(right) / max(float(decisions), 1.0)
