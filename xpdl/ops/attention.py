"""Scaled dot-product attention in blocks with the running softmax: memory that is linear in the length (arXiv:2112.05682).

The T x S scores of ``y = softmax(q k^T scale) v`` are never there at once: blocks of keys are taken one after the other,
with the largest score and the sum of exponentials so far, by which what was added up before is scaled down. The backward
pass computes the scores of each block again, from the log-sum that the forward pass returns (arXiv:2205.14135).

Shapes: queries `q` (N, H, T, D), keys and values `k`, `v` (N, H, S, D), for H heads. Half precision is computed with in
float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, device, rounded_to, widened
from xpdl.ops.precision import in_float32

# queries and keys of a block; its scores for all heads take N H 256^2 values
_BLOCK = 256
# stands for the scores of keys that are not looked at: finite, as the difference of two infinities is NaN
_NEVER = -1e30

Range = tuple[int, int]


@op
def attention(
    q: Array, k: Array, v: Array, mask: Array | None = None, *, causal: bool = False, block: int = _BLOCK
) -> tuple[Array, Array]:
    """Compute for each query the mean of the values, weighted by the softmax of ``q . k / sqrt(D)``.

    Parameters
    ----------
    q : array (N, H, T, D)
    k, v : arrays (N, H, S, D)
    mask : array (N, S) of booleans, optional
        Keys that count, such as those that are no padding.
    causal : bool
        Whether a query sees only keys up to its own place; the last query stands at the last key.
    block : int
        Queries and keys of a block.

    Returns
    -------
    y : array (N, H, T, D)
        0 for queries that see no key.
    log_sum : array (N, H, T, 1)
        Logarithm of the sum of the exponentials of the scores, for the backward pass. For half precision it is float32: the
        rounding of 8 to bfloat16 would change all probabilities of a query by 2 %.
    """
    dtype, (q, k, v) = q.dtype, map(widened, (q, k, v))
    xp, rows = array_namespace(q, k, v, mask), []
    for queries in _blocks(q.shape[2], block):
        part = _part(q, queries)
        total, largest = xp.zeros_like(part), xp.full_like(part[..., :1], _NEVER)
        weight = xp.zeros_like(largest)
        for keys in _seen(queries, q, k, causal, block):
            scores, counts = _scores(part, k, mask, queries, keys, q, causal)
            new = xp.maximum(largest, xp.max(scores, axis=-1, keepdims=True))
            p, shrink = _exponentials(scores - new, counts), xp.exp(largest - new)
            total = total * shrink + xp.matmul(p, _part(v, keys))
            weight = weight * shrink + xp.sum(p, axis=-1, keepdims=True)
            largest = new
        there = xp.where(weight > 0, weight, 1.0)
        rows.append((total / there, largest + xp.log(there)))
    y, log_sum = (xp.concat(list(one), axis=2) for one in zip(*rows, strict=True))
    return rounded_to(dtype, y), log_sum


@op
@in_float32
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
    block: int = _BLOCK,
) -> tuple[Array, Array, Array]:
    """Compute ``dq, dk, dv`` of `attention` for `dy` (N, H, T, D), whose results were `y` and `log_sum`.

    With the probabilities ``p = exp(scores - log_sum)`` of a block: ``dv = p^T dy``, and for the scores
    ``ds = p (dy v^T - sum(dy y))``, from which ``dq = ds k scale`` and ``dk = ds^T q scale``.
    """
    xp, scale = array_namespace(dy, q, k, v, y), 1.0 / math.sqrt(q.shape[-1])
    mean = xp.sum(dy * y, axis=-1, keepdims=True)
    key_blocks = list(_blocks(k.shape[2], block))
    dk, dv = ({keys: xp.zeros_like(_part(a, keys)) for keys in key_blocks} for a in (k, v))
    dq = []
    for queries in _blocks(q.shape[2], block):
        part, dpart = _part(q, queries), _part(dy, queries)
        total = xp.zeros_like(part)
        for keys in _seen(queries, q, k, causal, block):
            scores, counts = _scores(part, k, mask, queries, keys, q, causal)
            p = _exponentials(scores - _part(log_sum, queries), counts)
            ds = p * (xp.matmul(dpart, _transposed(_part(v, keys))) - _part(mean, queries))
            total = total + xp.matmul(ds, _part(k, keys))
            dk[keys] = dk[keys] + xp.matmul(_transposed(ds), part)
            dv[keys] = dv[keys] + xp.matmul(_transposed(p), dpart)
        dq.append(total * scale)
    return (
        xp.concat(dq, axis=2),
        xp.concat([dk[keys] * scale for keys in key_blocks], axis=2),
        xp.concat([dv[keys] for keys in key_blocks], axis=2),
    )


@op
@in_float32
def rotary(x: Array, base: float = 10000.0, first: int = 0, inverse: bool = False) -> Array:
    """Rotate pairs of values by angles that grow with the position (arXiv:2104.09864); its backward is the `inverse`.

    Parameters
    ----------
    x : array (..., T, D)
        D is even. Value d of the first half makes a pair with value d of the second, as in LLaMA; the paper has neighbours.
    base : float
        Pair d turns by ``base ** (-2 d / D)`` for each position.
    first : int
        Position of the first step.
    inverse : bool
        Whether to rotate backwards.

    Returns
    -------
    array of the shape of `x`
    """
    xp, half = array_namespace(x), x.shape[-1] // 2
    place = {"dtype": x.dtype, "device": device(x)}
    speed = xp.exp(xp.arange(half, **place) * (-math.log(base) / half))
    angle = xp.expand_dims(xp.arange(x.shape[-2], **place) + first, axis=-1) * speed
    cos, sin = xp.cos(angle), xp.sin(angle) * (-1.0 if inverse else 1.0)
    a, b = x[..., :half], x[..., half:]
    return xp.concat([a * cos - b * sin, a * sin + b * cos], axis=-1)


def _blocks(length: int, size: int) -> Iterator[Range]:
    """(start, end) of blocks, the last of which may be shorter."""
    for start in range(0, length, size):
        yield start, min(start + size, length)


def _part(a: Array, of: Range) -> Array:
    return a[:, :, of[0] : of[1], :]


def _transposed(a: Array) -> Array:
    return array_namespace(a).matrix_transpose(a)


def _seen(queries: Range, q: Array, k: Array, causal: bool, block: int) -> Iterator[Range]:
    """Blocks of keys of which a block of queries sees some."""
    for keys in _blocks(k.shape[2], block):
        if not causal or keys[0] < queries[1] + k.shape[2] - q.shape[2]:
            yield keys


def _scores(
    part: Array, k: Array, mask: Array | None, queries: Range, keys: Range, q: Array, causal: bool
) -> tuple[Array, Array | None]:
    """Scores of a block, and which of them count; None where all do."""
    xp = array_namespace(part, k, mask)
    scores = xp.matmul(part, _transposed(_part(k, keys))) * (1.0 / math.sqrt(q.shape[-1]))
    counts = None if mask is None else mask[:, None, None, keys[0] : keys[1]]
    ahead = k.shape[2] - q.shape[2]
    if causal and keys[1] > queries[0] + 1 + ahead:  # else all keys are before the first query
        at = xp.expand_dims(xp.arange(*queries, device=device(q)), axis=-1) + ahead
        earlier = xp.arange(*keys, device=device(q)) <= at
        counts = earlier if counts is None else xp.logical_and(counts, earlier)
    return (scores if counts is None else xp.where(counts, scores, _NEVER)), counts


def _exponentials(scores: Array, counts: Array | None) -> Array:
    xp = array_namespace(scores)
    if counts is None:
        return xp.exp(scores)
    # those that do not count may be beyond any range
    return xp.where(counts, xp.exp(xp.where(counts, scores, 0.0)), 0.0)
