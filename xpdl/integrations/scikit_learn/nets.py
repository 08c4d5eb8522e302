"""The net and the optimizer that the parameters of an estimator describe."""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any

from xpdl import optimizers
from xpdl.backends import Backend
from xpdl.backends.random import seeded
from xpdl.layers import Affine, Identity, Relu, Sigmoid, Tanh
from xpdl.layers.base import Layer
from xpdl.layers.losses import LossLayer
from xpdl.models import Sequential
from xpdl.ops.checks import number, positive_int
from xpdl.optimizers import AdamW, Optimizer
from xpdl.training.inputs import optimizer_options
from xpdl.training.ownership import require_new

#: parameter `activation` -> layer and how the weights before it are drawn; "logistic" is scikit-learn's name
ACTIVATIONS: dict[str, tuple[Callable[[], Layer], str]] = {
    "relu": (Relu, "he"),
    "tanh": (Tanh, "xavier"),
    "sigmoid": (Sigmoid, "xavier"),
    "logistic": (Sigmoid, "xavier"),
    "identity": (Identity, "xavier"),
}
#: strength of the L2 penalty, unless `weight_decay` says otherwise
WEIGHT_DECAY = 1e-3
# The seed of xpdl is one for the process: fits in several threads take turns to draw.
_DRAWING = threading.Lock()


def perceptron(sizes: int | Sequence[int], activation: str, outputs: int, loss: LossLayer, owner: str) -> Sequential:
    """Affine layers with an activation between them.

    Raises
    ------
    ValueError
        If there is no such activation, or a size is not a positive int.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"{owner}: activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    layer, init = ACTIVATIONS[activation]
    layers: list[Layer] = []
    for units in sizes if hasattr(sizes, "__iter__") else (sizes,):
        layers += [Affine(units=positive_int(units, "hidden_layer_sizes", owner), init=init), layer()]
    return Sequential(*layers, Affine(units=outputs, init="xavier"), loss=loss)


def built(
    build: Callable[..., Any], sizes: tuple[int, int], row_shape: Sequence[int], seed: int, backend: Backend, owner: str
) -> Sequential:
    """Call `build` with as many of `sizes`, (features, outputs), as it takes, and make the parameters on `backend`.

    Raises
    ------
    TypeError
        If it gives no `Sequential`.
    ValueError
        If it gives the net of an earlier fit.
    """
    with _DRAWING, seeded(seed):
        net = build(*sizes[: _positional(build)])
        if not isinstance(net, Sequential):
            raise TypeError(f"{owner}: build must return a Sequential with a loss, got {net!r}")
        require_new(net, owner)
        if net.built:
            net.to(backend)
        net.build(row_shape, backend=backend)
    return net


def _positional(function: Callable[..., Any]) -> int:
    """Return how many positional arguments a function takes, of those without a name at most two."""
    kinds = [p.kind for p in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return 2
    return sum(kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds)


def optimizer(rule: Any, learning_rate: float | None, weight_decay: float | None, owner: str) -> Optimizer:
    """Make an optimizer; without a learning rate it has the rule's own, but Adam the one of the book's trainer.

    Raises
    ------
    TypeError
        If `rule` is an instance, which has its hyper-parameters already, and one of them is given.
    """
    if isinstance(rule, Optimizer):
        for name, value in (("learning_rate", learning_rate), ("weight_decay", weight_decay)):
            if value is not None:
                raise TypeError(
                    f"{owner}: {name}={value} would not change {rule!r}, which exists already; give it there"
                )
        return copy.deepcopy(rule)  # fitting changes no argument
    kind = type(optimizers.get(rule))
    options: dict[str, Any] = dict(optimizer_options(rule, None if learning_rate is None else {"lr": learning_rate}))
    if issubclass(kind, AdamW):
        options |= {"decay": "weights"} if weight_decay is None else {"decay": "weights", "weight_decay": weight_decay}
        return kind(**options)
    strength = number(WEIGHT_DECAY if weight_decay is None else weight_decay, "weight_decay", owner, "at least 0")
    if strength:
        options |= {"weight_decay": {"l2": strength}, "decay": "weights"}
    return kind(**options)
