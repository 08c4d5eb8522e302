"""Loops over contiguous values, such as one column of an image in all images of a batch."""

from __future__ import annotations

from typing import Any

from xpdl.backends.numba.jit import inlined


@inlined
def copy(source: Any, out: Any) -> None:
    for k in range(out.shape[0]):
        out[k] = source[k]


@inlined
def add(source: Any, out: Any) -> None:
    for k in range(out.shape[0]):
        out[k] += source[k]


@inlined
def clear(out: Any) -> None:
    for k in range(out.shape[0]):
        out[k] = 0


@inlined
def finish(out: Any, bias: Any, lower: Any) -> None:
    """Add `bias`; values below `lower` then become it. NaN stays."""
    for k in range(out.shape[0]):
        value = out[k] + bias
        out[k] = lower if value < lower else value
