"""Dropout: a mask times a scale, forward and backward alike."""

from __future__ import annotations

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.backends.random import keep_mask
from xpdl.ops.precision import in_float32


@op
def dropout_mask(x: Array, drop_ratio: float, words: tuple[int, ...], counter: int, first_row: int = 0) -> Array:
    """A boolean mask of the shape of `x`, False with probability `drop_ratio`; bitwise identical on every backend.

    It is that of a larger batch, from its row `first_row` on.
    """
    return keep_mask(x, drop_ratio, words, counter, first_row)


@op
@in_float32
def dropout(x: Array, mask: Array, scale: float = 1.0) -> Array:
    """``scale * x`` where `mask` is true, else 0; its backward is itself, on ``dy``."""
    xp = array_namespace(x, mask)
    return xp.where(mask, x if scale == 1.0 else x * scale, 0.0)
