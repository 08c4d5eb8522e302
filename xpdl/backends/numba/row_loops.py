"""Loops over contiguous values, such as one column of an image in all images of a batch."""

from __future__ import annotations

from typing import Any

from xpdl.backends.numba.jit import inline


@inline
def copy(source: Any, out: Any) -> None:
    for k in range(out.shape[0]):
        out[k] = source[k]


@inline
def add(source: Any, out: Any) -> None:
    for k in range(out.shape[0]):
        out[k] += source[k]


@inline
def clear(out: Any) -> None:
    for k in range(out.shape[0]):
        out[k] = 0


@inline
def finish(out: Any, bias: Any, lower: Any) -> None:
    """Add `bias`; values below `lower` then become it. NaN stays."""
    for k in range(out.shape[0]):
        value = out[k] + bias
        out[k] = lower if value < lower else value
