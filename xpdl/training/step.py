"""The parts of one training step."""

from __future__ import annotations

from typing import Any

from xpdl.backends.namespaces import Array
from xpdl.optimizers import Optimizer
from xpdl.training.mixed_precision import MixedPrecision


def gradient(network: Any, precision: MixedPrecision | None, x: Array, t: Array) -> Any:
    """Gradients by the names of the parameters."""
    return network.gradient(x, t) if precision is None else precision.gradient(network, x, t)


def loss(network: Any, x: Array, t: Array) -> Any:
    """The loss that the gradient computed on its way, on the device, where the network or its last layer keeps it."""
    for owner in (network, getattr(network, "last_layer", None), getattr(network, "lastLayer", None)):
        for name in ("last_loss", "loss"):
            found = getattr(owner, name, None)
            if found is not None and not callable(found):
                return found
    # nobody does: once more forward
    return network.loss(x, t)


def update(optimizer: Optimizer, precision: MixedPrecision | None, params: Any, grads: Any) -> None:
    """Change the parameters."""
    if precision is None:
        optimizer.update(params, grads)
    else:
        precision.update(optimizer, params, grads)
