"""Dropout masks, of which the counter is an argument: it differs at every step."""

from __future__ import annotations

import functools

import jax
import numpy as np

from xpdl.backends.jax.arrays import Array
from xpdl.backends.random import keyed_bits, mask_keys, mask_threshold
from xpdl.backends.registry import kernel


@kernel("jax", "dropout_mask")
def dropout_mask(x: Array, drop_ratio: float, words: tuple[int, ...], counter: int, first_row: int = 0) -> Array:
    """As `xpdl.ops.dropout.dropout_mask`, bitwise identical."""
    keys = np.asarray(mask_keys(words, counter), dtype=np.uint32)
    return _mask(x, keys, mask_threshold(drop_ratio), first_row)


# without the unused values of `x`, the mask would be on the default device
@functools.partial(jax.jit, static_argnums=(2, 3), keep_unused=True)
def _mask(x: Array, keys: Array, threshold: int, first_row: int) -> Array:
    return keyed_bits(x, keys, first_row) >= threshold
