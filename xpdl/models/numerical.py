"""Numerical gradients of a model's loss, by central differences."""

from __future__ import annotations

from collections.abc import Callable

from xpdl.backends.namespaces import Array
from xpdl.gradients import numerical_gradient
from xpdl.layers.composite import Composite


def numerical_gradients(model: Composite, loss: Callable[[], Array]) -> dict[str, Array]:
    """Return the gradients of ``loss()`` by name; every evaluation starts from the same state, so masks are the same."""
    start = [(owner, dict(owner)) for owner in {id(o): o for _, o, _ in model.named_state()}.values()]
    params, gradients = model.params, {}

    def loss_at(name: str, value: Array) -> Array:
        for owner, values in start:
            owner.update(values)
        params[name] = value
        return loss()

    for name, value in params.items():
        gradients[name] = numerical_gradient(lambda v, name=name: loss_at(name, v), value)  # type: ignore[misc]
        params[name] = value
    for owner, values in start:
        owner.update(values)
    return gradients
