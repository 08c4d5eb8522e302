"""Passes and update of a training step, as what compiles a step calls them."""

from __future__ import annotations

from typing import Any

from xpdl.backends.namespaces import Array
from xpdl.data.structure import rows_in
from xpdl.layers.recurrent_state import stateful_layers
from xpdl.models.gradient_accumulator import Accumulated
from xpdl.optimizers import Optimizer

#: dict that owns an array, and its key there
Entry = tuple[dict[str, Any], str]


class StepPasses:
    """A training step of a model in the dtype of its parameters.

    Attributes
    ----------
    network : Model
    optimizer : Optimizer
    accumulator : Accumulated
    """

    def __init__(self, network: Any, optimizer: Optimizer, accumulator: Accumulated) -> None:
        self.network, self.optimizer, self.accumulator = network, optimizer, accumulator

    def gradient(self, *batch: Array) -> Any:
        """Compute gradients by the names of the parameters."""
        return self.network.gradient(*batch)

    def result(self, x: Array, t: Array) -> tuple[Array, Array | float]:
        """Return the loss that `gradient` computed on its way, and the weight of the rows in its mean."""
        weight = getattr(self.network.last_layer, "weight", None)
        return self.network.last_loss, rows_in(x) if weight is None else weight

    def update(self, grads: Any) -> None:
        """Change the parameters."""
        self.optimizer.update(self.network.params, grads)

    def scale(self) -> list[Entry]:
        """Return the owner of the scale of the loss on the device, if it has one, which is made if it is not there."""
        return []

    def accumulate(self, grads: Any, weight: Array | float, last: bool) -> bool:
        """Update with the gradients since the last update where it is time for one, and return whether it was."""
        means = self.accumulator.add(grads, weight, last)
        if means is not None:
            self.update(means)
        return means is not None

    def states(self) -> list[Entry]:
        """Return the states that recurrent layers go on with; those at the start of a text are None."""
        return [(vars(layer), name) for layer in stateful_layers(self.network) for name in layer.state_names]

    def kept(self) -> list[Entry]:
        """Return the arrays that a step changes besides parameters, what layers keep in their state, and the optimizer's."""
        return [*self.scale(), *self.accumulator.entries(self.network.params.trained), *self.states()]
