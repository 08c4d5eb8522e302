"""Compute many rows batch by batch, so that the memory taken is that of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xpdl.backends.cpu.partition import split
from xpdl.backends.namespaces import Array, array_namespace, is_array
from xpdl.errors import ShapeError
from xpdl.ops.checks import positive_int
from xpdl.ops.losses import batch_rows


def batched(function: Callable[[Array], Array], x: Array, batch_size: int) -> Array:
    """``function(x)``, computed on at most `batch_size` rows at a time and joined along axis 0.

    Batches are of about equal length: a short last one would take nearly as long as a full one.
    """
    rows = int(x.shape[0]) if is_array(x) and x.ndim else 0
    if rows <= batch_size:
        return function(x)
    count = -(-rows // batch_size)
    parts = [function(x[part, ...]) for part in split(rows, count)]
    return array_namespace(*parts).concat(parts)


def share_correct(correct: Callable[[Array, Array], Array], x: Array, t: Array, batch_size: int, owner: str) -> float:
    """Share of the booleans that `correct` gives for rows of `x` and `t` that are true, over all rows.

    They are counted on their device, and read once.
    """
    batch_size = positive_int(batch_size, "batch_size", owner)
    rows = batch_rows(x, owner)
    if batch_rows(t, owner) != rows:
        raise ShapeError(f"{owner}: {rows} rows of x, but {t.shape[0]} of t")
    right: Any = 0
    decisions = 0
    for start in range(0, rows, batch_size):
        end = min(start + batch_size, rows)
        hits = correct(x[start:end, ...], t[start:end, ...])
        xp = array_namespace(hits)
        right = right + xp.sum(xp.astype(hits, xp.int32))  # JAX has no int64 by default
        decisions += math.prod(hits.shape)
    return float(right) / decisions
