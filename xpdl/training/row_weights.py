"""Weights of the rows to train with: their check, and what rows of weight 0 are good for."""

from __future__ import annotations

import functools
import hashlib
import math
import operator
from inspect import signature
from typing import Any

from xpdl.backends import Backend, asnumpy
from xpdl.backends.namespaces import Array, array_namespace, is_floating
from xpdl.backends.tables import as_array
from xpdl.data import is_mapped
from xpdl.data.structure import arrays_of, map_arrays, rows_in
from xpdl.layers.function_loss import FunctionLoss
from xpdl.models.base import Model
from xpdl.ops.checks import is_finite, require_shape
from xpdl.ops.positions import is_label
from xpdl.ops.targets import finite_rows


def row_weights(sample_weight: Any, x: Any, network: Any, backend: Backend) -> Array | None:
    """The weights of the rows of `x` to train with, checked and moved to the network, or None.

    Raises
    ------
    TypeError
        If it is no array, or the network's gradient and loss do not take weights.
    ShapeError
        If it has not one number for each row.
    ValueError
        If one is negative or not finite, or all are 0.
    """
    if sample_weight is None:
        return None
    owner = "Trainer: sample_weight"
    sample_weight = as_array(sample_weight, owner)
    require_shape(sample_weight, (rows_in(x),), "Trainer", "sample_weight, one for each row of x_train,")
    last = getattr(network, "last_layer", None)
    if isinstance(last, FunctionLoss):
        last.require_weights()
    functions = (network.gradient, network.loss, getattr(last, "forward", None))
    takes = isinstance(network, Model) and all("sample_weight" in signature(f).parameters for f in functions if f)
    if not takes:
        raise TypeError(
            f"{owner}: gradient, loss and the loss layer of {type(network).__name__} must take sample_weight"
        )
    values = asnumpy(sample_weight)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{owner} must be real numbers, got {values.dtype}")
    values = values.astype("float64")
    wrong = [row for row, value in enumerate(values.tolist()) if not 0 <= value < math.inf]
    if wrong:
        raise ValueError(f"{owner} must be finite and at least 0, got {values[wrong[0]]} in row {wrong[0]}")
    if not values.any():
        raise ValueError(f"{owner}: all weights are 0, which leaves nothing to train with")
    return backend.asarray(values)


def weights_checksum(sample_weight: Any) -> str | None:
    """Compute a checksum of the weights of rows; None where there are none."""
    if sample_weight is None:
        return None
    return hashlib.sha256(asnumpy(sample_weight).astype("<f8").tobytes()).hexdigest()[:16]


def without_missing_targets(x: Any, t: Any, weights: Array | None) -> tuple[Any, Any, Array | None]:
    """Drop the rows of weight 0 that have NaN or infinity as a target: they do not count, and would make the loss NaN."""
    if weights is None or any(is_mapped(a) for _, a in arrays_of(x)):  # of a mapped file all rows stay, and are checked
        return x, t, weights
    is_missing = asnumpy(weights) == 0
    finite = [finite_rows(array) for _, array in arrays_of(t) if is_floating(array) and not is_finite(array)]
    is_missing &= ~functools.reduce(operator.and_, finite) if finite else False
    if not is_missing.any():
        return x, t, weights
    kept = (~is_missing).nonzero()[0]

    def take(a: Array) -> Array:
        return array_namespace(a).take(a, Backend.of(a).asarray(kept, "int64"), axis=0)

    return map_arrays(take, x), map_arrays(take, t), take(weights)


def check_rows_count(which: str, x: Any, t: Any, weights: Array | None, network: Any) -> None:
    """Refuse a data set of which no row counts in the loss, by the weights of rows and classes and the label to ignore."""
    last = getattr(network, "last_layer", None)
    of_classes, ignored = getattr(last, "class_weights", None), getattr(last, "ignore_label", None)
    if ignored is None and (of_classes is None or all(of_classes)):
        return
    targets = asnumpy(t)  # of a loss with these options, one array
    targets = targets if weights is None else targets[asnumpy(weights) > 0]
    purpose = "train with" if which == "train" else "measure the loss on"
    has_labels = _has_labels(x, t, network)
    if has_labels and ignored is not None:
        targets = targets[~is_label(targets, ignored)]
        if not targets.size:
            raise ValueError(
                f"Trainer: t_{which}: all labels are ignore_label={ignored}, which leaves nothing to {purpose}; give rows "
                "with other labels"
            )
    if of_classes is None:
        return
    counting = [k for k, weight in enumerate(of_classes) if weight]
    if not (any((targets == k).any() for k in counting) if has_labels else targets[..., counting].any()):
        raise ValueError(
            f"Trainer: t_{which}: all rows are of classes that have the weight 0, which leaves nothing to {purpose}; give "
            f"one of them a weight above 0 in class_weights={of_classes}, or rows of other classes"
        )


def _has_labels(x: Any, t: Array, network: Any) -> bool:
    """Return whether targets are labels, not one-hot or weighted rows over the classes."""
    if not array_namespace(t).isdtype(t.dtype, "integral"):
        return False
    if not isinstance(network, Model):
        return bool(t.ndim == 1)
    return tuple(t.shape[1:]) != network.output_shape(map_arrays(lambda a: tuple(a.shape[1:]), x))
