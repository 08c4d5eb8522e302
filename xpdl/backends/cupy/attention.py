"""Attention by matrix products and one kernel between them: scale, mask and softmax of the scores, forward and backward.

Queries are taken in blocks, with all keys that any of them sees, so that rows of scores are whole and memory stays linear.
Half precision is computed with in float32, as by the generic op.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from xpdl.backends.cupy.heads import apart, beside
from xpdl.backends.cupy.launch import (
    computing_dtype,
    contiguous,
    cupy,
    dtype_name,
    empty,
    kernel,
    same_device,
    supports,
)
from xpdl.backends.cupy.products import matmul
from xpdl.backends.cupy.softmax import launch_rows, scores
from xpdl.backends.namespaces import Array
from xpdl.backends.registry import DECLINE

# The most scores that are there at once, and the fewest queries of a block, for products that are worth a launch.
_SCORES, _QUERIES = 1 << 24, 16
# as in xpdl/ops/attention.py
_NEVER = -1e30


@kernel("attention")
def attention(
    q: Array, k: Array, v: Array, mask: Array | None = None, *, causal: bool = False, block: int = 256
) -> tuple[Array, Array]:
    """As `xpdl.ops.attention.attention`; blocks have at most `block` queries."""
    if not _serves(q, k, v, mask):
        return DECLINE
    sizes, flags = _Sizes(q, k, causal), 0 if mask is None else contiguous(mask)
    queries, keys, values = apart(q, k, v)
    parts, log_sum = [], empty((*queries.shape[:2], 1), queries.dtype)
    for start, stop, seen in sizes.blocks(block):
        if seen == 0:
            parts.append(cupy().zeros_like(queries[:, start:stop]))
            log_sum[:, start:stop] = _NEVER
            continue
        p = matmul(queries[:, start:stop], keys[:, :seen].transpose(0, 2, 1))
        launch_rows("softmax", p, p, flags, p, log_sum, sizes.scale, sizes.scores(start, stop, seen))
        parts.append(matmul(p, values[:, :seen]))
    [y] = beside(sizes.heads, q.dtype, _joined(parts))
    return y, log_sum.reshape(*q.shape[:3], 1)


@kernel("attention_backward")
def attention_backward(
    dy: Array,
    q: Array,
    k: Array,
    v: Array,
    y: Array,
    log_sum: Array,
    mask: Array | None = None,
    *,
    causal: bool = False,
    block: int = 256,
) -> tuple[Array, Array, Array]:
    """As `xpdl.ops.attention.attention_backward`."""
    if not _serves(q, k, v, mask) or not supports(q, dy, y) or not same_device(q, log_sum):
        return DECLINE
    if dtype_name(log_sum.dtype) != computing_dtype(q.dtype):
        return DECLINE
    if dy.shape != q.shape or y.shape != q.shape or log_sum.shape != (*q.shape[:3], 1):
        return DECLINE
    sizes, flags = _Sizes(q, k, causal), 0 if mask is None else contiguous(mask)
    upstream, queries, keys, values, results = apart(dy, q, k, v, y)
    past = contiguous(log_sum)
    parts, of_keys, of_values = [], _Total(keys), _Total(values)
    for start, stop, seen in sizes.blocks(block):
        own, gradient = queries[:, start:stop], upstream[:, start:stop]
        if seen == 0:
            parts.append(cupy().zeros_like(own))
            continue
        p = matmul(own, keys[:, :seen].transpose(0, 2, 1))
        ds = matmul(gradient, values[:, :seen].transpose(0, 2, 1))
        of_block = (sizes.scale, sizes.scores(start, stop, seen))
        launch_rows("softmax_backward", p, ds, p, flags, past, upstream, results, sizes.size, p, ds, *of_block)
        parts.append(matmul(ds, keys[:, :seen]))
        of_keys.add(matmul(ds.transpose(0, 2, 1), own))
        of_values.add(matmul(p.transpose(0, 2, 1), gradient))
    dq, dk, dv = beside(sizes.heads, q.dtype, _joined(parts), of_keys.sum, of_values.sum)
    return dq, dk, dv


class _Total:
    """The sum of gradients of the first keys or values; that of all alone is the sum itself."""

    def __init__(self, of: Array) -> None:
        self._like, self._sum = of, None

    def add(self, gradient: Array) -> None:
        """Add up the gradient of the first of them."""
        if self._sum is None and gradient.shape == self._like.shape:
            self._sum = gradient
            return
        self.sum[:, : gradient.shape[1]] += gradient

    @property
    def sum(self) -> Array:
        if self._sum is None:
            self._sum = cupy().zeros_like(self._like)
        return self._sum


class _Sizes:
    """Sizes of queries and keys, and how many keys a query sees."""

    def __init__(self, q: Array, k: Array, causal: bool) -> None:
        self.n, self.heads, self.queries, self.size = q.shape
        self.keys, self.causal = k.shape[2], causal
        self.scale = 1.0 / math.sqrt(self.size)

    def blocks(self, block: int) -> Iterator[tuple[int, int, int]]:
        """Blocks of queries: the first, the one behind the last, and the number of keys that the last one sees."""
        step = min(block, max(_SCORES // (self.n * self.heads * self.keys), _QUERIES))
        for start in range(0, self.queries, step):
            stop = min(start + step, self.queries)
            yield start, stop, self._seen(stop - 1) if self.causal else self.keys

    def scores(self, start: int, stop: int, seen: int) -> Any:
        """The scores of a block for the kernels."""
        count = stop - start
        by_first = start + 1 + self.keys - self.queries if self.causal else self.keys
        rows, in_sequence = self.n * self.heads * count, self.heads * count
        return scores(rows, seen, count, in_sequence, by_first, self.keys, start, self.queries)

    def _seen(self, query: int) -> int:
        return max(0, query + 1 + self.keys - self.queries)


def _serves(q: Array, k: Array, v: Array, mask: Array | None) -> bool:
    """Return whether all have the shapes of attention and one dtype."""
    if not supports(q, k, v) or q.ndim != 4 or k.shape != v.shape or k.ndim != 4:
        return False
    if q.shape[:2] != k.shape[:2] or q.shape[3] != k.shape[3]:
        return False
    if mask is None:
        return True
    return same_device(q, mask) and dtype_name(mask.dtype) == "bool" and mask.shape == (k.shape[0], k.shape[2])


def _joined(parts: list[Array]) -> Array:
    """Blocks of queries as one array."""
    if len(parts) == 1:
        return parts[0]
    n, _, size = parts[0].shape
    joined, start = empty((n, sum(part.shape[1] for part in parts), size), parts[0].dtype), 0
    for part in parts:
        joined[:, start : start + part.shape[1]] = part
        start += part.shape[1]
    return joined
