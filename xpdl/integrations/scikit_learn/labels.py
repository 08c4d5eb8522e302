"""Classes as the loss of a net takes them, and its scores as probabilities of them."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from xpdl.backends.namespaces import Array, array_namespace
from xpdl.layers import SigmoidWithLoss, SoftmaxWithLoss
from xpdl.layers.losses import LossLayer
from xpdl.models import Sequential

_OWNER = "XpdlClassifier"


def is_multilabel(y: Any) -> bool:
    """Return whether targets are several labels for a row, 0 or 1 each, and not one class.

    Raises
    ------
    ValueError
        If they are neither.
    """
    check_classification_targets(y)
    kind = type_of_target(y)
    if kind == "multiclass-multioutput":
        raise ValueError(
            f"{_OWNER}: y has several columns of classes, and a net here has one set of them; fit one for each column with "
            f"sklearn.multioutput.MultiOutputClassifier({_OWNER}())"
        )
    return bool(kind == "multilabel-indicator")


def encoded(labels: Any, net: Sequential, row_shape: tuple[int, ...], classes: int, multilabel: bool) -> Any:
    """Return classes by number (N,), or labels (N, K), as the loss of `net` takes them.

    Raises
    ------
    TypeError
        If its loss is not for them.
    ValueError
        If it does not end in as many scores.
    """
    last = net.last_layer
    if last is None or not last.classifies:
        raise TypeError(
            f"{_OWNER}: build must return a Sequential with SoftmaxWithLoss or SigmoidWithLoss, got {net!r}"
        )
    out = net.output_shape(row_shape)
    answers = isinstance(last, SigmoidWithLoss)
    if answers and classes == 2 and math.prod(out) == 1 and not multilabel:
        return labels.astype("float32").reshape(-1, *out)
    if out != (classes,):
        one = ", or one score with SigmoidWithLoss" if classes == 2 and not multilabel else ""
        raise ValueError(
            f"{_OWNER}: build must end in {classes} scores, one for each class{one}, got rows of shape {out}"
        )
    if not multilabel:
        return (labels[:, None] == range(classes)).astype("float32") if answers else labels
    if not answers:
        raise TypeError(f"{_OWNER}: build must return a net with SigmoidWithLoss for several labels, got {last!r}")
    return labels.astype("float32")


def probabilities(scores: Array, last: LossLayer, classes: int, multilabel: bool) -> Array:
    """Return probabilities (N, K) for scores, by the activation of the loss."""
    if multilabel or not isinstance(last, SigmoidWithLoss):
        return last.activation(scores)
    xp = array_namespace(scores)
    if classes == 2 and math.prod(scores.shape[1:]) == 1:
        yes = last.activation(xp.reshape(scores, (-1,)))
        return xp.stack([1.0 - yes, yes], axis=-1)
    # answers of yes and no divided by their sum: the softmax of their logarithms does not underflow
    return SoftmaxWithLoss().activation(-xp.logaddexp(xp.zeros_like(scores), -scores))


def splitter(labels: Any, share: float) -> Any:
    """Return the class of scikit-learn that draws a share of the rows: of each class, if it has rows for both sides."""
    counts, drawn = Counter(labels.tolist()) if labels.ndim == 1 else Counter(), share * len(labels)
    fits = counts and min(counts.values()) > 1 and len(counts) <= drawn <= len(labels) - len(counts)
    return StratifiedShuffleSplit if fits else ShuffleSplit
