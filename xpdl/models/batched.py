"""Compute many rows batch by batch, so that the memory taken is that of a batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from xpdl.backends.namespaces import Array, array_namespace, is_array


def batched(function: Callable[[Array], Array], x: Array, batch_size: int) -> Array:
    """``function(x)``, computed on at most `batch_size` rows at a time and joined along axis 0.

    Batches are of about equal length: a short last one would take nearly as long as a full one.
    """
    rows = int(x.shape[0]) if is_array(x) and x.ndim else 0
    if rows <= batch_size:
        return function(x)
    count = -(-rows // batch_size)
    edges = [rows * k // count for k in range(count + 1)]
    parts = [function(x[start:end, ...]) for start, end in itertools.pairwise(edges)]
    return array_namespace(*parts).concat(parts)
