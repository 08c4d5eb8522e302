"""Measures of scores by their order: top-k accuracy and the area under the ROC curve."""

from __future__ import annotations

import math

from xpdl.backends.namespaces import Array, array_namespace, is_floating
from xpdl.errors import ShapeError
from xpdl.metrics.inputs import labels, on_host, require_binary, weighted_mean
from xpdl.ops.checks import positive_int

_AVERAGES = ("macro", "micro", "weighted")


def top_k_accuracy(y: Array, t: Array, k: int = 2) -> float:
    """Share of the rows whose class is among the `k` with the highest scores.

    Parameters
    ----------
    y : floating array (N, K)
        Scores or probabilities.
    t : integer array (N,), or one-hot rows (N, K)
    k : int
        With K or more, every row is right.

    Returns
    -------
    float
        Of classes with equal scores, those of higher numbers come first, as in scikit-learn.

    Raises
    ------
    ShapeError
        If the arrays have other shapes.
    LabelError
        If a label is not one of the K classes.
    """
    owner = "top_k_accuracy"
    positive_int(k, "k", owner)
    y, t = on_host(y, t, owner)
    if y.ndim != 2 or not is_floating(y):
        raise ShapeError(
            f"{owner}: expected floating scores (N, K) of K classes, got shape {tuple(y.shape)}, {y.dtype}"
        )
    t = labels(t, y, owner)
    xp = array_namespace(y)
    own = xp.take_along_axis(y, xp.expand_dims(t, axis=-1), axis=-1)
    classes, right = xp.arange(y.shape[-1]), xp.expand_dims(t, axis=-1)
    # a score that is NaN counts as higher than the right one, and a right one that is NaN as lower than all
    is_before = ~(y <= own) & (classes != right) | ((y == own) & (classes > right))
    before = xp.sum(xp.astype(is_before, xp.int64), axis=-1)
    return float(xp.mean(xp.astype(before < k, xp.float64)))


def roc_auc(y: Array, t: Array, *, average: str = "macro") -> float:
    """Area under the ROC curve: the chance that a positive row has a higher score than a negative one, ties counted half.

    Parameters
    ----------
    y : floating array (N,), (N, 1) or (N, K)
        Scores of class 1; scores of two classes, of which the second's are looked at; or of K classes or labels, each
        against all others.
    t : array (N,) of labels, or (N, K) one-hot or multilabel
    average : {"macro", "micro", "weighted"}
        Over classes or labels, as in `precision`; with (N, K) alone.

    Returns
    -------
    float
        NaN where a class has no row, or all of them, and where a score is NaN: the area is not defined. A weighted mean does
        without classes that have no row.

    Raises
    ------
    ValueError
        If `average` is something else.
    ShapeError
        If `y` and `t` do not fit, or have no rows.
    LabelError
        If a label is not one of the classes.

    Examples
    --------
    >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """
    owner = "roc_auc"
    if average not in _AVERAGES:
        raise ValueError(f"{owner}: average must be one of {', '.join(_AVERAGES)}, got {average!r}")
    y, t = on_host(y, t, owner)
    xp = array_namespace(y)
    if y.ndim == 2 and y.shape[-1] == 1:
        y, t = y[:, 0], (t[:, 0] if t.ndim == 2 else t)
    if y.ndim == 1:
        require_binary(t, y, owner)
        return _area(y, t > 0.5)
    if y.ndim != 2:
        raise ShapeError(f"{owner}: expected scores (N,) or (N, K), got shape {tuple(y.shape)}")
    if t.ndim == 1:
        t = labels(t, y, owner)
        if y.shape[-1] == 2:
            return _area(y[:, 1], t == 1)
        t = xp.expand_dims(t, axis=-1) == xp.arange(y.shape[-1])
    elif tuple(t.shape) != tuple(y.shape):
        raise ShapeError(f"{owner}: y has shape {tuple(y.shape)}, but t {tuple(t.shape)}")
    t = t > 0.5 if not xp.isdtype(t.dtype, "bool") else t
    if average == "micro":
        return _area(xp.reshape(y, (-1,)), xp.reshape(t, (-1,)))
    areas = [_area(y[:, k], t[:, k]) for k in range(y.shape[-1])]
    if average == "macro":
        return weighted_mean(areas, [1.0] * len(areas))
    support = [float(xp.sum(xp.astype(t[:, k], xp.float64))) for k in range(y.shape[-1])]
    kept = [(area, weight) for area, weight in zip(areas, support, strict=True) if weight]
    return weighted_mean([area for area, _ in kept], [weight for _, weight in kept])


def _area(y: Array, positive: Array) -> float:
    """The area under the ROC curve of scores (N,), from the ranks of the positive rows among the negative ones."""
    xp = array_namespace(y)
    high, low = y[positive], xp.sort(y[~positive])
    if not high.shape[0] or not low.shape[0] or (is_floating(y) and bool(xp.any(xp.isnan(y)))):
        return math.nan
    below = xp.searchsorted(low, high, side="left")
    at_most = xp.searchsorted(low, high, side="right")
    pairs = float(high.shape[0]) * float(low.shape[0])
    return float(xp.sum(xp.astype(below + at_most, xp.float64))) / (2.0 * pairs)
