"""Measures of decisions: accuracy, precision, recall and F1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xpdl.backends.namespaces import Array, array_namespace
from xpdl.metrics.inputs import UNDECIDED, decisions, weighted_mean
from xpdl.ops.checks import flag

_AVERAGES = ("binary", "macro", "micro", "weighted")
Parts = Callable[[Any, Any, Any], tuple[Any, Any]]


def accuracy(y: Array, t: Array, *, whole_rows: bool = False) -> float:
    """Share of the rows, or of the labels of multilabel rows, that are predicted right.

    Parameters
    ----------
    y, t : array
        As in the table above.
    whole_rows : bool
        Count multilabel rows that are right in all their labels, as scikit-learn does (subset accuracy).

    Returns
    -------
    float
        From 0 to 1. A row with a score that is NaN is wrong.

    Raises
    ------
    ShapeError
        If `y` and `t` do not fit, or have no rows.

    Examples
    --------
    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    flag(whole_rows, "whole_rows", "accuracy")
    y, t = decisions(y, t, "accuracy")
    xp = array_namespace(y)
    right = xp.all(y == t, axis=-1) if whole_rows and y.ndim > 1 else y == t
    return float(xp.mean(xp.astype(right, xp.float64)))


def precision(y: Array, t: Array, *, average: str = "binary", zero_division: float = 0.0) -> float:
    """True positives among the predicted ones: ``tp / (tp + fp)``.

    Parameters
    ----------
    y, t : array
        As in the table above.
    average : {"binary", "macro", "micro", "weighted"}
        ``"binary"`` is that of class 1 among labels 0 and 1. Of several classes, or multilabel rows: ``"macro"``, the mean
        over the classes that occur in `y` or `t`, or over all labels of multilabel rows; ``"weighted"``, that mean weighted
        by how often they occur in `t`; ``"micro"``, of all their decisions together.
    zero_division : {0.0, 1.0, nan}
        The value of a class where the divisor is 0; NaN takes it out of the mean.

    Returns
    -------
    float
        A row with a score that is NaN is predicted as no class.

    Raises
    ------
    ValueError
        If `average` or `zero_division` is something else, or ``"binary"`` is asked for other labels than 0 and 1.
    ShapeError
        If `y` and `t` do not fit, or have no rows.

    Examples
    --------
    >>> precision(np.array([1, 1, 0, 1]), np.array([1, 0, 0, 1]))
    0.6666666666666666
    """
    return _averaged(y, t, average, zero_division, "precision", lambda tp, found, there: (tp, found))


def recall(y: Array, t: Array, *, average: str = "binary", zero_division: float = 0.0) -> float:
    """True positives among those that there are: ``tp / (tp + fn)``. Arguments and errors are those of `precision`."""
    return _averaged(y, t, average, zero_division, "recall", lambda tp, found, there: (tp, there))


def f1(y: Array, t: Array, *, average: str = "binary", zero_division: float = 0.0) -> float:
    """Harmonic mean of precision and recall: ``2 tp / (2 tp + fp + fn)``. Arguments and errors as of `precision`."""
    return _averaged(y, t, average, zero_division, "f1", lambda tp, found, there: (2.0 * tp, found + there))


def _averaged(y: Array, t: Array, average: str, zero_division: float, owner: str, parts: Parts) -> float:
    """The quotient of `parts` of true positives, predicted ones and those that there are, averaged over classes."""
    if average not in _AVERAGES:
        raise ValueError(f"{owner}: average must be one of {', '.join(_AVERAGES)}, got {average!r}")
    if isinstance(zero_division, bool) or not (zero_division in (0, 1) or zero_division != zero_division):
        raise ValueError(f"{owner}: zero_division must be 0, 1 or nan, got {zero_division!r}")
    y, t = decisions(y, t, owner)
    counts = _counts(y, t, average == "binary", owner)
    if average == "micro":
        tp, found, there = map(sum, zip(*counts, strict=True))
        counts = [(tp, found, there)]
    quotients = [_quotient(*parts(*count), float(zero_division)) for count in counts]
    weights = [there if average == "weighted" else 1.0 for _, _, there in counts]
    kept = [(value, weight) for value, weight in zip(quotients, weights, strict=True) if not math.isnan(value)]
    return weighted_mean([value for value, _ in kept], [weight for _, weight in kept])


def _counts(y: Array, t: Array, binary: bool, owner: str) -> list[tuple[float, float, float]]:
    """For each class or label: true positives, predicted ones, and those that there are."""
    xp = array_namespace(y)
    if y.ndim == 2:
        if binary:
            raise ValueError(f"{owner}: multilabel rows have no average='binary'; take macro, micro or weighted")
        pairs = [(y[:, k], t[:, k]) for k in range(y.shape[-1])]
    else:
        present = xp.unique_values(xp.concat([y[y != UNDECIDED], t]))
        if binary and bool(xp.any((present != 0) & (present != 1))):
            raise ValueError(f"{owner}: average='binary' takes labels 0 and 1; take macro, micro or weighted")
        pairs = [(y == k, t == k) for k in ([1] if binary else present.tolist())]
    return [tuple(float(xp.sum(xp.astype(a, xp.float64))) for a in (p & q, p, q)) for p, q in pairs]  # type: ignore[misc]


def _quotient(above: float, below: float, zero_division: float) -> float:
    return above / below if below else zero_division
