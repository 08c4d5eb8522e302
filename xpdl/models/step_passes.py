"""Passes and update of a training step, as what compiles a step calls them."""

from __future__ import annotations

from typing import Any

from xpdl.backends.namespaces import Array
from xpdl.data.structure import rows_in
from xpdl.optimizers import Optimizer

#: dict that owns an array, and its key there
Entry = tuple[dict[str, Any], str]


class StepPasses:
    """A training step of a model in the dtype of its parameters.

    Attributes
    ----------
    network : Model
    optimizer : Optimizer
    """

    def __init__(self, network: Any, optimizer: Optimizer) -> None:
        self.network, self.optimizer = network, optimizer

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
