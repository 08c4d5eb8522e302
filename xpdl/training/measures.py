"""Metrics that a trainer was asked for: by name or as functions, and what they need of a network's outputs."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from xpdl import metrics
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.layers.losses import LossLayer, SigmoidWithLoss
from xpdl.layers.several_losses import SeveralLosses
from xpdl.models.base import Model
from xpdl.models.seq2seq import Seq2seq
from xpdl.ops.checks import function

_NAMES = (
    "accuracy, top_5_accuracy (or another number), precision, recall, f1, each of these three also with _binary, _macro, "
    "_micro or _weighted behind it, roc_auc, roc_auc_macro, roc_auc_micro, roc_auc_weighted, perplexity, mse, mae, r2"
)
_AVERAGED = re.compile(r"(precision|recall|f1|roc_auc)(?:_(binary|macro|micro|weighted))?")
_TOP = re.compile(r"top_([1-9]\d*)_accuracy")
_ERRORS = ("mse", "mae")
#: kind of outputs -> metrics that fit
_FITTING = {
    "classes": "accuracy, top_5_accuracy, precision, recall, f1, roc_auc and perplexity",
    "classes of each position": "accuracy and perplexity",
    "labels": "accuracy, precision, recall, f1 and roc_auc",
    "values": "mse, mae and r2",
}


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Outputs of a network for all rows of a data set, on the host.

    Attributes
    ----------
    kind : {"classes", "labels", "values", "several"}
        Scores of classes, of yes / no labels, or numbers; or those of several outputs.
    scores : array (N, ...)
        Before the activation of the loss, in float64. Of several outputs, a tuple or dict, as `y` and `t` are.
    y : array (N, ...)
        After it: probabilities, or the numbers themselves.
    t : array
        Targets as they were given.
    """

    kind: str
    scores: Array
    y: Array
    t: Array

    @property
    def width(self) -> int:
        """The number of classes, labels or numbers of a row."""
        return math.prod(self.scores.shape[1:])


@dataclasses.dataclass(frozen=True)
class Measure:
    """One metric of a trainer.

    Attributes
    ----------
    name : str
        In a history, behind the name of a data set: ``val_f1``.
    function : callable
        ``function(outputs)`` -> float.
    greater_is_better : bool or None
        None where nobody said.
    """

    name: str
    function: Callable[[Outputs], float]
    greater_is_better: bool | None


def kind_of(network: Any) -> str:
    """The kind of a network's outputs, see `Outputs`."""
    last = getattr(network, "last_layer", None)
    if isinstance(last, SigmoidWithLoss):
        return "labels"
    if isinstance(last, SeveralLosses):
        return "several"
    classifies = getattr(last, "classifies", True) and callable(getattr(network, "accuracy", None))
    return "classes" if classifies else "values"


def activation_of(network: Any) -> Callable[[Array], Array]:
    """Return the function from scores to what the loss compares with the targets, where its layer has one."""
    last = getattr(network, "last_layer", None)
    return last.activation if isinstance(last, LossLayer) else lambda scores: scores


def loss_words(network: Any, loss: float) -> str:
    """A loss for people; where it is a sum over several outputs also the mean, which other libraries show."""
    last = getattr(network, "last_layer", None)
    mean = last.mean_over_outputs(loss) if isinstance(last, LossLayer) else None
    return f"{loss:.4f}" if mean is None else f"{loss:.4f} ({mean[0]} {mean[1]:.4f})"


def resolve(asked: Iterable[Any], network: Any, owner: str = "Trainer") -> list[Measure]:
    """The metrics for a network: names, functions ``f(y, t)``, and mappings of names to such functions.

    Raises
    ------
    TypeError
        If one is something else.
    ValueError
        If a name is unknown, asked for twice, or for another kind of network.
    """
    if isinstance(asked, str) or not isinstance(asked, Iterable):
        raise TypeError(f"{owner}: metrics must be a list of names and functions, got {asked!r}")
    found: dict[str, Measure | None] = {}
    items = asked.items() if isinstance(asked, Mapping) else (_named(one, owner) for one in asked)
    for name, one in items:
        # a name in place of a function is one of ours
        by_name = one is None and not isinstance(asked, Mapping)
        measure = _by_name(name, network, owner) if by_name else _own(name, one, owner)
        if name in found or name in ("acc", "loss") or not name.isidentifier():
            raise ValueError(f"{owner}: metrics need names of their own such as 'my_metric', got {name!r}")
        found[name] = measure
    return [measure for measure in found.values() if measure is not None]


def _named(one: Any, owner: str) -> tuple[str, Any]:
    if isinstance(one, str):
        return one, None
    ours = getattr(one, "__name__", "")
    if getattr(metrics, ours, None) is one and ours in metrics.__all__:
        return ("top_2_accuracy" if one is metrics.top_k_accuracy else ours), None
    if not callable(one):
        raise TypeError(f"{owner}: a metric is a name or a function f(y, t), got {one!r}")
    if not ours.isidentifier():
        raise ValueError(f"{owner}: {one!r} has no name to record it by; pass metrics={{'name': function}}")
    return ours, one


def _own(name: Any, one: Any, owner: str) -> Measure:
    if not isinstance(name, str):
        raise TypeError(f"{owner}: the name of a metric must be a string, got {name!r}")
    function(one, f"the metric {name!r}", owner)

    def measured(outputs: Outputs) -> float:
        value = one(outputs.y, outputs.t)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{owner}: the metric {name!r} must return one number, got {value!r}") from None

    return Measure(name, measured, getattr(one, "greater_is_better", None))


def _by_name(name: str, network: Any, owner: str) -> Measure | None:
    """A metric of ours; None for the accuracy, which every classification has anyway."""
    kind, regression, likelihood = kind_of(network), name in (*_ERRORS, "r2"), name == "perplexity"
    averaged, top = _AVERAGED.fullmatch(name), _TOP.fullmatch(name)
    if not (regression or likelihood or name == "accuracy" or top or (averaged and name != "roc_auc_binary")):
        raise ValueError(f"{owner}: there is no metric {name!r}; there are {_NAMES}, and functions f(y, t)")
    if kind == "several":
        raise ValueError(f"{owner}: the metric {name!r} is for a network of one output; pass a function f(y, t) of all")
    if regression != (kind == "values") or ((top or likelihood) and kind != "classes"):
        needed = "numbers" if regression else "classes" if top or likelihood else "classes or yes / no labels"
        raise ValueError(
            f"{owner}: the metric {name!r} is for a network that predicts {needed}, not {kind}; {_fitting(network, kind)}"
        )
    if kind == "classes" and (top or averaged) and has_positions(network):
        raise ValueError(
            f"{owner}: the metric {name!r} is for one class a row, not one for each position; {_fitting(network, kind)}"
        )
    if regression:
        one = getattr(metrics, name)
        return Measure(name, lambda outputs: one(outputs.y, outputs.t), name not in _ERRORS)
    if likelihood:
        ignored = getattr(getattr(network, "last_layer", None), "ignore_label", None)
        return Measure(name, lambda o: metrics.perplexity(o.y, o.t, ignore_label=ignored), False)
    if top:
        return Measure(name, lambda outputs: metrics.top_k_accuracy(outputs.scores, outputs.t, int(top[1])), True)
    if averaged is None:
        return None
    rule = _area if averaged[1] == "roc_auc" else _decided
    return Measure(name, functools.partial(rule, averaged[1], averaged[2]), True)


def has_positions(network: Any) -> bool:
    """Return whether a network that is built has scores of classes for each position of a row."""
    if isinstance(network, Seq2seq):
        return True
    shape = getattr(network, "input_shape", None)
    return isinstance(network, Model) and shape is not None and len(network.output_shape(shape)) > 1


def _fitting(network: Any, kind: str) -> str:
    """Say which metrics fit the loss of a network."""
    if kind == "classes" and has_positions(network):
        kind = "classes of each position"
    last = getattr(network, "last_layer", None)
    name = getattr(last, "title", type(network if last is None else last).__name__)
    return f"{name} goes with {_FITTING[kind]}"


def _decided(name: str, average: str | None, outputs: Outputs) -> float:
    """Precision, recall or F1: by default of class 1, where there are two, and else the mean over classes or labels."""
    y, t, binary = outputs.scores, outputs.t, outputs.width == 2
    if outputs.kind == "labels":
        t, binary, xp = t.reshape(y.shape) > 0.5, outputs.width == 1, array_namespace(y)
        # a single score that is NaN stays such, as it decides for no class
        y = xp.where(xp.isnan(y), y, xp.astype(y > 0, y.dtype)) if binary else y > 0
        y, t = (a.reshape(-1) if binary else a.reshape(a.shape[0], -1) for a in (y, t))
    found: float = getattr(metrics, name)(y, t, average=average or ("binary" if binary else "macro"))
    return found


def _area(name: str, average: str | None, outputs: Outputs) -> float:
    """Area under the ROC curve: of scores, which do not saturate; of several classes, of probabilities."""
    y, t = outputs.scores, outputs.t
    if outputs.kind == "labels":
        y = y.reshape(y.shape[0], -1)
        t = t.reshape(y.shape) > 0.5
    elif outputs.width == 2:
        y, t = y[:, 1] - y[:, 0], t[:, 1] > t[:, 0] if t.shape == y.shape else t
    else:
        y = outputs.y
    return metrics.roc_auc(y, t, average=average or "macro")
