"""Sums of vectors, of NumPy or CuPy, as communicators make them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from xpdl.backends.namespaces import Array, array_namespace, is_half

Buffer = np.ndarray[Any, Any]


def summed(arrays: Sequence[Array], add: Callable[[Array], Array]) -> list[Array]:
    """Return the sums of arrays where `add` adds up a vector: those of one dtype go together."""
    kinds: dict[str, list[int]] = {}
    for place, a in enumerate(arrays):
        kinds.setdefault(a.dtype.str + a.dtype.name, []).append(place)
    sums = list(arrays)
    for places in kinds.values():
        xp = array_namespace(arrays[places[0]])
        total, begin = add(xp.concatenate([arrays[place].ravel() for place in places])), 0
        for place in places:
            a = arrays[place]
            sums[place] = total[begin : begin + a.size].reshape(a.shape)
            begin += a.size
    return sums


def added_up(terms: Iterable[Array]) -> Array:
    """Add vectors in their order, in float32 where they are in half precision, and round once."""
    first, *others = terms
    total = first.astype(np.float32) if is_half(first) else first.copy()
    with np.errstate(all="ignore"):  # infinite gradients, as a loss scale finds them
        for term in others:
            total += term
        return total.astype(first.dtype, copy=False)


def parts_of(values: Array, ranks: int) -> Array:
    """Return a vector (n,) as rows, one for each rank; zeros fill up the last ones."""
    padded = values if values.size % ranks == 0 else array_namespace(values).pad(values, (0, -values.size % ranks))
    return padded.reshape(ranks, -1)
