"""Hinge loss of scores of classes: the right one is to be ahead of the others by a margin."""

from __future__ import annotations

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, widened
from xpdl.ops.checks import require_rank, require_scores
from xpdl.ops.losses import batch_rows, by_row, counted, divided, target_rows, total_weight
from xpdl.ops.precision import in_float32

_OWNER = "Hinge"


@op
def hinge(x: Array, t: Array, margin: float = 1.0, sample_weight: Array | None = None) -> Array:
    """Compute what the scores of wrong classes lack of `margin` behind the right one, summed over a row, mean over the rows.

    Parameters
    ----------
    x : array (N, K)
        Scores.
    t : array (N,) of integers, or (N, K) one-hot rows
    margin : float
    sample_weight : array (N,), optional
        Factors of the rows, by which the mean is weighted.

    Returns
    -------
    array ()
        The mean over the rows of ``sum(max(0, margin + x_k - x_t))`` over the classes k other than t.
    """
    batch_rows(x, _OWNER)
    require_scores(x, _OWNER)
    x = widened(x)
    _, _, lacks = _lacking(x, t, margin, sample_weight)
    total = total_weight(x, x, None, sample_weight, _OWNER)
    return divided(array_namespace(x).sum(lacks * by_row(x, sample_weight, _OWNER)), total)


@op
@in_float32
def hinge_backward(
    x: Array, t: Array, dout: Array | float = 1.0, margin: float = 1.0, sample_weight: Array | None = None
) -> Array:
    """``dx``: 1 for each class within the margin, and minus their number for the right one, times ``r dout / sum(r)``."""
    xp, right, lacks = _lacking(x, t, margin, sample_weight)
    pushed = xp.astype(lacks > 0, x.dtype)
    slopes = pushed - right * xp.sum(pushed, axis=-1, keepdims=True)
    total = total_weight(x, x, None, sample_weight, _OWNER)
    return slopes * by_row(x, sample_weight, _OWNER) * divided(dout, total)


def _lacking(x: Array, t: Array, margin: float, sample_weight: Array | None) -> tuple[Array, Array, Array]:
    """The namespace, one-hot rows of `t`, and what each wrong class lacks of the margin; rows of weight 0 are of zeros."""
    require_rank(x, 2, _OWNER, "scores (N, K)")
    xp, right = array_namespace(x, t, owner=_OWNER), target_rows(x, t, _OWNER)
    x, right = counted(x, sample_weight, _OWNER), counted(right, sample_weight, _OWNER)
    # 0 times infinity, and the difference of infinity from itself, would be NaN
    own = xp.sum(right * xp.where(right == 0, 0.0, x), axis=-1, keepdims=True)
    ahead = xp.where(right == 1, 0.0, x) - xp.where(right == 1, 0.0, own)
    return xp, right, xp.maximum(ahead + margin, 0.0) * (1.0 - right)
