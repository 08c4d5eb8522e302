"""Embedding by one kernel, and its gradient by a sort and one more, which adds up the segments of equal ids.

The sort is of ours as well: that of CuPy waits for the stream, which a step that is recorded must not.
"""

from __future__ import annotations

from typing import Any

from xpdl.backends.cupy.elementwise import pack_shares
from xpdl.backends.cupy.launch import (
    BLOCK,
    contiguous,
    cupy,
    dtype_name,
    empty,
    kernel,
    launch,
    launch_elementwise,
    same_device,
    supports,
)
from xpdl.backends.cupy.tiles import column_shares, divisor
from xpdl.backends.namespaces import Array
from xpdl.backends.registry import DECLINE

# As in cuda/embedding.cu; a key has an id and its place, less than so many each.
_RUN, _MOST = 1024, 1 << 31
_ANY = "float32"


@kernel("embedding")
def embedding(W: Array, ids: Array) -> Array:
    """As `xpdl.ops.embedding.embedding`."""
    if not supports(W) or W.ndim != 2 or not _are_ids(W, ids):
        return DECLINE
    count, units = W.shape
    y = empty((*ids.shape, units), W.dtype)
    args = (contiguous(W), _int64(ids), y, count, units, divisor(units), y.size)
    launch("embedding", "embedding", dtype_name(W.dtype), *pack_shares(y.size, y.dtype), args, max(W.size, y.size))
    return y


@kernel("embedding_backward")
def embedding_backward(dy: Array, ids: Array, count: int) -> Array:
    """As `xpdl.ops.embedding.embedding_backward`."""
    if not supports(dy) or not _are_ids(dy, ids) or dy.shape[:-1] != ids.shape or not 0 < count < _MOST:
        return DECLINE
    keys, dy, units = _sorted(ids, count), contiguous(dy), dy.shape[-1]
    sums, (blocks, block) = empty((count, units), dy.dtype), column_shares(units, dy)
    args = (dy, keys, sums, units, ids.size)
    launch("embedding", "segment_sums", dtype_name(dy.dtype), (count, blocks), block, args, max(dy.size, sums.size))
    return sums


def _sorted(ids: Array, count: int) -> Array:
    """Keys of the ids and their places, in order: runs are sorted, and merged two by two."""
    n, keys = ids.size, empty((ids.size,), cupy().int64)
    launch("embedding", "sort_runs", _ANY, (-(-n // _RUN),), (BLOCK,), (_int64(ids), keys, count, n), n)
    length = _RUN
    while length < n:
        merged = empty((n,), cupy().int64)
        launch_elementwise("embedding", "merge_runs", _ANY, n, keys, merged, length, largest=2 * n)
        keys, length = merged, 2 * length
    return keys


def _are_ids(beside: Array, ids: Array) -> bool:
    return same_device(beside, ids) and ids.dtype.kind in "iu" and 0 < ids.size < _MOST


def _int64(ids: Array) -> Any:
    return contiguous(ids.astype(cupy().int64, copy=False))
