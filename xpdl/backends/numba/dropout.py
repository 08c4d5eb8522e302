"""Dropout masks in one pass: `xpdl.backends.random.random_bits`, with the hash of each index in registers."""

from __future__ import annotations

from typing import Any

from numba import uint32

from xpdl.backends.numba.jit import compiled, inlined


@compiled
def dropout_mask(first_key: int, second_key: int, threshold: int, start: int, mask: Any) -> None:
    """Fill the part of a mask that begins at the index `start`."""
    for k in range(len(mask)):
        h = _hashed(uint32(_hashed(uint32(start + k) ^ uint32(first_key)) ^ uint32(second_key)))
        mask[k] = h >> 8 >= threshold


@inlined
def _hashed(h: Any) -> Any:
    # Numba makes 64 bits of each result; 32 of them are multiplied by twice as many lanes
    h = uint32((h ^ (h >> 16)) * 0x7FEB352D)
    h = uint32((h ^ (h >> 15)) * 0x846CA68B)
    return uint32(h ^ (h >> 16))
