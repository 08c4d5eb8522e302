"""Softmax along the last axis in one launch, forward and backward; that of attention has a scale, and keys may not count."""

from __future__ import annotations

from typing import Any

from xpdl.backends.cupy.launch import contiguous, dtype_name, empty, kernel, launch, struct, supports
from xpdl.backends.cupy.tiles import row_shares
from xpdl.backends.namespaces import Array
from xpdl.backends.registry import DECLINE

# As in cuda/softmax.cu.
_SCORES = "rows columns queries in_sequence seen keys first all"


@kernel("softmax")
def softmax(x: Array, axis: int = -1) -> Array:
    """As `xpdl.ops.activations.softmax`."""
    if not _serves(axis, x):
        return DECLINE
    y = empty(x.shape, x.dtype)
    launch_rows("softmax", contiguous(x), contiguous(x), 0, y, 0, 1.0, _alone(x))
    return y


@kernel("softmax_backward")
def softmax_backward(dy: Array, y: Array, axis: int = -1) -> Array:
    """As `xpdl.ops.activations.softmax_backward`."""
    if not _serves(axis, dy, y):
        return DECLINE
    dx = empty(y.shape, y.dtype)
    launch_rows("softmax_backward", y, contiguous(dy), contiguous(y), 0, 0, 0, 0, 0, 0, dx, 1.0, _alone(y))
    return dx


def scores(
    rows: int, columns: int, queries: int, in_sequence: int, seen: int, keys: int, first: int, every: int
) -> Any:
    """The structure ``Scores`` of the kernels."""
    return struct(_SCORES, rows, columns, queries, in_sequence, seen, keys, first, every)


def launch_rows(name: str, x: Array, *args: Any) -> None:
    """Launch a kernel over the rows of an array of the shape of `x`."""
    grid, block = row_shares(x.size // x.shape[-1], x.shape[-1])
    launch("softmax", name, dtype_name(x.dtype), grid, block, args, x.size)


def _alone(x: Array) -> Any:
    """Of rows that are no scores of attention: every column counts."""
    rows, columns = x.size // x.shape[-1], x.shape[-1]
    return scores(rows, columns, 1, 1, columns, columns, 0, 1)


def _serves(axis: int, *arrays: Array) -> bool:
    x = arrays[0]
    return supports(*arrays) and x.ndim > 0 and axis in (-1, x.ndim - 1) and all(a.shape == x.shape for a in arrays)
