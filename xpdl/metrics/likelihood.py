"""Measures of probabilities: how likely a model finds what is true."""

from __future__ import annotations

import math

from xpdl.backends.namespaces import Array, array_namespace, is_floating
from xpdl.errors import ShapeError
from xpdl.metrics.inputs import labels, on_host
from xpdl.ops.checks import integer

# the largest number of which Python knows the exponential
_LARGEST = 709.0


def perplexity(y: Array, t: Array, *, ignore_label: int | None = None) -> float:
    """Perplexity: the exponential of the mean of ``-log(y[t])`` (the second volume's ch. 5.5.4).

    It is the number of classes among which a guess would be as uncertain: K for probabilities that are all alike, 1 where
    each class is predicted with certainty.

    Parameters
    ----------
    y : floating array (N, ..., K)
        Probabilities of K classes, of the words that may follow in a text for example.
    t : integer array (N, ...), or one-hot rows (N, ..., K)
    ignore_label : int, optional
        Positions with this label, of padding for example, do not count.

    Returns
    -------
    float
        At least 1 for probabilities; infinity where one of a true class is 0, NaN where no position counts.

    Raises
    ------
    ShapeError
        If the arrays have other shapes.
    LabelError
        If a label is not one of the K classes.

    Examples
    --------
    >>> perplexity(np.array([[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]]), np.array([0, 1]))
    4.0
    """
    owner = "perplexity"
    y, t = on_host(y, t, owner)
    if y.ndim < 2 or not is_floating(y):
        raise ShapeError(f"{owner}: expected probabilities (N, ..., K), got shape {tuple(y.shape)}, {y.dtype}")
    xp, want = array_namespace(y), tuple(y.shape[:-1])
    if tuple(t.shape) not in (want, (*want, 1), tuple(y.shape)):
        raise ShapeError(f"{owner}: y has shape {tuple(y.shape)}, but t {tuple(t.shape)}; expected {want}")
    rows = xp.reshape(y, (-1, y.shape[-1]))
    t = xp.reshape(t, tuple(rows.shape) if tuple(t.shape) == tuple(y.shape) else (-1,))
    if ignore_label is not None and t.ndim == 1:
        counts = t != integer(ignore_label, "ignore_label", owner)
        rows, t = rows[counts, :], t[counts]
    if rows.shape[0] == 0:
        return math.nan
    chosen = xp.take_along_axis(rows, xp.expand_dims(labels(t, rows, owner), axis=-1), axis=-1)
    if xp.any(chosen == 0):
        return math.inf
    loss = -float(xp.mean(xp.log(chosen)))
    return math.exp(loss) if not loss > _LARGEST else math.inf
