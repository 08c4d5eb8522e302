"""Scores of a few candidates: products of a vector and some rows of a table (the second volume's ch. 4.2)."""

from __future__ import annotations

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, rounded_to, widened
from xpdl.errors import ShapeError
from xpdl.ops.embedding import embedding, embedding_backward


@op
def candidate_scores(h: Array, W: Array, ids: Array) -> Array:
    """Multiply each vector with the rows of its candidates.

    Parameters
    ----------
    h : array (N, units)
    W : array (count, units)
        The table.
    ids : array (N, ..., K) of integers
        Candidates, numbers of rows; an id outside of ``[0, count)`` gives NaN.

    Returns
    -------
    array (N, ..., K)
        ``h[n] @ W[ids[n, ..., k]]``

    Raises
    ------
    ShapeError
        If there are not candidates for each vector.
    """
    if ids.ndim < 2 or ids.shape[0] != h.shape[0]:
        raise ShapeError(
            f"candidate_scores: expected candidates (N, ..., K) for vectors {tuple(h.shape)}, got shape {tuple(ids.shape)}"
        )
    xp = array_namespace(h, W, ids)
    products = widened(_beside(h, ids)) * widened(embedding(W, ids))
    return rounded_to(h.dtype, xp.sum(products, axis=-1))


@op
def candidate_scores_backward(
    dy: Array, h: Array, W: Array, ids: Array, *, need_dW: bool = True
) -> tuple[Array, Array | None]:
    """``dh`` (N, units), the sum over the candidates of ``dy W[ids]``, and ``dW`` (count, units), the sums of ``dy h``.

    Without `need_dW`, as in a layer that is frozen, that is None.
    """
    xp = array_namespace(dy, h, W, ids)
    dy = xp.expand_dims(widened(dy), axis=-1)
    dh = xp.sum(dy * widened(embedding(W, ids)), axis=tuple(range(1, ids.ndim)))
    if not need_dW:
        return rounded_to(h.dtype, dh), None
    dW = embedding_backward(dy * widened(_beside(h, ids)), ids, W.shape[0])
    return rounded_to(h.dtype, dh), rounded_to(W.dtype, dW)


def _beside(h: Array, ids: Array) -> Array:
    """`h` (N, units) with an axis for each further one of `ids`."""
    return array_namespace(h).reshape(h, (h.shape[0], *(1,) * (ids.ndim - 1), h.shape[1]))
