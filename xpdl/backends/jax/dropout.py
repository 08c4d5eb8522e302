"""Dropout masks, of which the counter is an argument: it differs at every step."""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import jax
import numpy as np

from xpdl.backends.jax.arrays import Array
from xpdl.backends.random import keyed_bits, mask_keys, mask_threshold
from xpdl.backends.registry import kernel

# stream -> the keys of its masks, which are traced: each is good for one mask
_traced_keys: contextvars.ContextVar[dict[str, Array] | None] = contextvars.ContextVar("traced_keys", default=None)


@kernel("jax", "dropout_mask")
def dropout_mask(x: Array, drop_ratio: float, words: tuple[int, ...], counter: int, first_row: int = 0) -> Array:
    """As `xpdl.ops.dropout.dropout_mask`, bitwise identical."""
    traced = _traced_keys.get()
    if traced is None:
        keys: Array = np.asarray(mask_keys(words, counter), dtype=np.uint32)
    elif (name := stream_name(words)) in traced:
        keys = traced.pop(name)
    else:
        raise RuntimeError("a layer draws a mask from a stream that is not in its state, or a second one in a step")
    return _mask(x, keys, mask_threshold(drop_ratio), first_row)


@contextlib.contextmanager
def traced_keys(keys: dict[str, Array]) -> Iterator[None]:
    """Draw masks by these keys inside, one by those of each stream, instead of by counters on the host."""
    token = _traced_keys.set(dict(keys))
    try:
        yield
    finally:
        _traced_keys.reset(token)


def stream_name(words: tuple[int, ...]) -> str:
    """Name a stream of masks, as a key that JAX can sort."""
    return ",".join(map(str, words))


# without the unused values of `x`, the mask would be on the default device
@functools.partial(jax.jit, static_argnums=(2, 3), keep_unused=True)
def _mask(x: Array, keys: Array, threshold: int, first_row: int) -> Array:
    return keyed_bits(x, keys, first_row) >= threshold
