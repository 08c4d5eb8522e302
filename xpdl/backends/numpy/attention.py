"""Attention over blocks of queries, each with all keys that it sees: scores in preallocated memory that stays in the cache.

With so few queries that their scores with all keys fit there, no running softmax is needed, and memory is linear in the
length all the same. A causal block has no products with the keys behind it. Threads share sequences. Results are in memory
of the order (N, T, H, D), in which the heads lie side by side.

16 sequences of 128 positions, 4 heads of 32 values, causal: 3.0 ms instead of 10.5 with the generic op, and the gradient 5.0
instead of 14, on one core of an EPYC.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu import buffer_pool, thread_pool
from xpdl.backends.cpu.partition import cut, pieces
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.cpu.workspace import scratch
from xpdl.backends.namespaces import rounded_to, wide_dtype, widened
from xpdl.backends.registry import DECLINE, kernel

# scores of keys that are not looked at, as in the generic op; half of it is below all others
_NEVER = -1e30


class _Block(NamedTuple):
    """A block of queries of some heads of one sequence, and the keys that it sees."""

    heads: slice
    queries: slice
    keys: slice
    # query i sees key j of those from `partly` on where ``j - i <= shift``
    partly: int
    shift: int


@kernel("numpy", "attention")
def attention(
    q: NDArray, k: NDArray, v: NDArray, mask: NDArray | None = None, *, causal: bool = False, block: int = 256
) -> tuple[NDArray, NDArray]:
    """As `xpdl.ops.attention.attention`."""
    if not _supports(q, k, v, mask=mask):
        return DECLINE
    dtype, (q, k, v) = q.dtype, map(widened, (q, k, v))
    y, log_sum = _heads_last(q), np.empty((*q.shape[:3], 1), q.dtype)
    blocks = list(_blocks(q, k, causal, block))

    def sequence(n: int) -> None:
        hidden = None if mask is None else np.logical_not(mask[n])
        for b in blocks:
            p = _scores(_scaled(q[n, b.heads, b.queries]), k[n], b, hidden)
            largest = np.maximum(np.maximum.reduce(p, axis=1, keepdims=True), 0.5 * _NEVER)
            p -= largest
            np.exp(p, out=p)
            weight = np.add.reduce(p, axis=1, keepdims=True)
            # of queries that see a key; NaN counts
            divisor = np.where(weight == 0, 1.0, weight).astype(p.dtype, copy=False)
            out = np.matmul(_transposed(p), v[n, b.heads, b.keys], out=y[n, b.heads, b.queries])
            out /= _transposed(divisor)
            total = np.where(weight == 0, _NEVER, largest + np.log(divisor))
            log_sum[n, b.heads, b.queries] = _transposed(total)

    _run(sequence, q, k)
    return rounded_to(dtype, y), log_sum


@kernel("numpy", "attention_backward")
def attention_backward(
    dy: NDArray,
    q: NDArray,
    k: NDArray,
    v: NDArray,
    y: NDArray,
    log_sum: NDArray,
    mask: NDArray | None = None,
    *,
    causal: bool = False,
    block: int = 256,
) -> tuple[NDArray, NDArray, NDArray]:
    """As `xpdl.ops.attention.attention_backward`."""
    if not _supports(q, k, v, dy, y, mask=mask) or type(log_sum) is not np.ndarray or log_sum.dtype != wide_dtype(q):
        return DECLINE
    dtype, (dy, q, k, v, y) = q.dtype, map(widened, (dy, q, k, v, y))
    dq, dk, dv = map(_heads_last, (q, k, v))
    # the last queries first: they see all keys, and write where others add
    blocks = list(_blocks(q, k, causal, block))[::-1]

    def sequence(n: int) -> None:
        hidden = None if mask is None else np.logical_not(mask[n])
        for b in blocks:
            place, keys = (n, b.heads, b.queries), (n, b.heads, b.keys)
            scaled, dpart = _scaled(q[place]), dy[place]
            p = _scores(scaled, k[n], b, hidden)
            p -= _transposed(np.maximum(log_sum[place], 0.5 * _NEVER))
            np.exp(p, out=p)
            add = b.queries.stop < q.shape[2]
            _multiply(p, dpart, dv[keys], add)
            ds = np.matmul(v[keys], _transposed(dpart), out=scratch("dscores", p.shape, p.dtype))
            ds -= np.einsum("hqd,hqd->hq", dpart, y[place])[:, None, :]
            ds *= p
            _multiply(ds, scaled, dk[keys], add)
            dq_part = np.matmul(_transposed(ds), k[keys], out=dq[place])
            dq_part *= _scale(q)

    _run(sequence, q, k)
    return rounded_to(dtype, dq), rounded_to(dtype, dk), rounded_to(dtype, dv)


def _supports(*arrays: NDArray, mask: NDArray | None) -> bool:
    q = arrays[0]
    return (
        q.ndim == 4
        and q.dtype.char in "efd"
        and q.dtype.isnative
        and all(type(a) is np.ndarray and a.dtype == q.dtype and a.size > 0 for a in arrays)
        and (mask is None or (type(mask) is np.ndarray and mask.dtype == np.bool_))
    )


def _heads_last(like: NDArray) -> NDArray:
    """An array (N, H, T, D) in memory of the order (N, T, H, D)."""
    n, h, t, d = like.shape
    return buffer_pool.empty((n, t, h, d), like.dtype).transpose(0, 2, 1, 3)


def _blocks(q: NDArray, k: NDArray, causal: bool, block: int) -> Iterator[_Block]:
    """The blocks of a sequence, each of so many heads and queries that their scores stay in the cache."""
    (heads, length), keys = q.shape[1:3], k.shape[2]
    most = min(length, block, max(TUNING.attention_queries, TUNING.attention_scores // keys))
    ahead = keys - length
    if causal:
        most = min(most, TUNING.attention_causal_queries)
    for part in pieces(heads, max(1, TUNING.attention_scores // (most * keys))):
        for queries in pieces(length, most):
            stop = min(max(queries.stop + ahead, 1), keys) if causal else keys
            partly = min(max(queries.start + ahead + 1, 0), stop) if causal else stop
            yield _Block(part, queries, slice(0, stop), partly, queries.start + ahead - partly)


def _scale(q: NDArray) -> float:
    return 1.0 / math.sqrt(q.shape[-1])


def _scaled(part: NDArray) -> NDArray:
    return np.multiply(part, _scale(part), out=scratch("queries", part.shape, part.dtype))


def _scores(scaled: NDArray, k: NDArray, b: _Block, hidden: NDArray | None) -> NDArray:
    """Scores (heads, keys, queries) of a block, in memory that the next block uses again; `_NEVER` where a key is not seen.

    Queries are innermost: along the keys NumPy then reduces whole rows, a maximum in a quarter of the time.
    """
    shape = (len(scaled), b.keys.stop, scaled.shape[1])
    scores = np.matmul(k[b.heads, b.keys], _transposed(scaled), out=scratch("scores", shape, scaled.dtype))
    if b.partly < b.keys.stop:
        later = scores[:, b.partly :]
        np.copyto(later, _NEVER, where=_is_later(*later.shape[1:], b.shift))
    if hidden is not None:
        np.copyto(scores, _NEVER, where=hidden[b.keys, None])
    return scores


@functools.lru_cache(maxsize=16)
def _is_later(keys: int, queries: int, shift: int) -> NDArray:
    later = np.arange(keys)[:, None] - np.arange(queries) > shift
    later.flags.writeable = False
    return later


def _transposed(a: NDArray) -> NDArray:
    return a.swapaxes(-1, -2)


def _multiply(p: NDArray, a: NDArray, out: NDArray, add: bool) -> None:
    """``p a`` is written to `out`, or added to it."""
    if not add:
        np.matmul(p, a, out=out)
    else:
        out += np.matmul(p, a, out=scratch("products", out.shape, out.dtype))


def _run(sequence: Callable[[int], Any], q: NDArray, k: NDArray) -> None:
    """Do `sequence` for each of the batch; threads share them."""
    n, h, t, d = q.shape

    def task(part: slice) -> None:
        for index in range(part.start, part.stop):
            sequence(index)

    each = h * t * k.shape[2] * d
    thread_pool.run([functools.partial(task, part) for part in cut(n, max(1, TUNING.attention_task // each))])
