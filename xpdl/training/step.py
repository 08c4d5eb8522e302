"""One training step: gradients in the precision of the run, their accumulation, the update."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from xpdl.backends.namespaces import Array, is_array, is_host
from xpdl.data.structure import rows_in
from xpdl.models.gradient_accumulator import Accumulated
from xpdl.optimizers import Optimizer
from xpdl.training.nan_check import first_non_finite, read_losses
from xpdl.training.precision.mixed import MixedPrecision
from xpdl.training.run_state import RunState

# Losses on a device are read together: often enough to stop soon after the first NaN, seldom enough that the device hardly
# ever waits for the host.
STEPS_BETWEEN_READS = 100


class StepResult(NamedTuple):
    """The result of one training step.

    Attributes
    ----------
    loss : array () or float
        The mean over the rows of the batch, before the update; on the network's device.
    updated : bool
        Whether the step has updated the parameters, or only accumulated its gradients.
    """

    loss: Any
    updated: bool


class EagerStep:
    """Makes training steps one operation after the other.

    Parameters
    ----------
    network, optimizer
    precision : MixedPrecision, optional
    accumulate_grad_batches : int
        Batches that make one update.
    state : RunState
        Gets the losses: those of a device are pending until they are read.
    """

    def __init__(
        self,
        network: Any,
        optimizer: Optimizer,
        precision: MixedPrecision | None,
        accumulate_grad_batches: int,
        state: RunState,
    ) -> None:
        self.network, self.optimizer, self.precision, self.state = network, optimizer, precision, state
        self.accumulator = Accumulated(accumulate_grad_batches)

    def restart(self) -> None:
        """Drop the gradients and losses of an epoch that was broken off."""
        self.state.pending = []
        self.accumulator.clear()

    def __call__(self, x: Array, t: Array, *sample_weight: Array, last: bool = False) -> StepResult:
        """Make a step on a batch; the `last` one of an epoch updates with what is accumulated.

        Raises
        ------
        FloatingPointError
            If a loss or a gradient that is read is NaN or infinite.
        """
        grads = self.gradient(x, t, *sample_weight)
        loss, weight = loss_of(self.network, x, t), weight_of(self.network, x)
        due = self.reads_next()
        self.state.pending.append((loss, weight))
        # before the update, which would spread a NaN over all parameters
        if due or not is_array(loss) or is_host(loss):
            self.read_losses(x, t, grads)
        grads = self.accumulator.add(grads, weight, last)
        if grads is not None:
            update(self.optimizer, self.precision, self.network.params, grads)
        return StepResult(loss, grads is not None)

    def finish(self) -> None:
        """Update with what is accumulated, where nobody knew which batch would be the last."""
        grads = self.accumulator.rest()
        if grads is not None:
            update(self.optimizer, self.precision, self.network.params, grads)

    def reads_next(self) -> bool:
        """Return whether the next step reads the losses that are pending, and its own."""
        return len(self.state.pending) + 1 >= STEPS_BETWEEN_READS

    def gradient(self, x: Array, t: Array, *sample_weight: Array) -> Any:
        """Compute gradients by the names of the parameters."""
        return gradient(self.network, self.precision, x, t, *sample_weight)

    def locate(self, x: Array, t: Array) -> str:
        """Describe the first layer with NaN or infinity, see `first_non_finite`."""
        return first_non_finite(self.network, x, t)

    def read_losses(self, x: Array, t: Array, grads: Mapping[str, Array] = MappingProxyType({})) -> None:
        """Read the pending losses on the host, into the history; `x`, `t` and `grads` are of the last step.

        Raises
        ------
        FloatingPointError
            If one of them is NaN or infinite.
        """
        pending, self.state.pending = self.state.pending, []
        if self.precision is not None:
            self.precision.sync(self.optimizer)
        losses = self.state.history.train_loss_list
        read_losses([loss for loss, _ in pending], losses, self.network, x, t, grads, self.precision, self.locate)
        self.state.epoch_loss.add(losses[len(losses) - len(pending) :], [weight for _, weight in pending])


def gradient(network: Any, precision: MixedPrecision | None, x: Array, t: Array, *sample_weight: Array) -> Any:
    """Compute gradients by the names of the parameters."""
    if precision is not None:
        return precision.gradient(network, x, t, *sample_weight)
    grads = network.gradient(x, t, *sample_weight)
    if grads is None:  # a network may keep them instead
        grads = getattr(network, "grads", None)
    if not isinstance(grads, Mapping):
        raise TypeError(
            f"{type(network).__name__}: gradient(x, t) must return a dict of gradients, got {type(grads).__name__}"
        )
    return grads


def loss_of(network: Any, x: Array, t: Array) -> Any:
    """Return the loss that the gradient computed on its way, on the device, where the network or its last layer keeps it."""
    for owner in (network, getattr(network, "last_layer", None), getattr(network, "lastLayer", None)):
        for name in ("last_loss", "loss"):
            loss = getattr(owner, name, None)
            if loss is not None and not callable(loss):
                return loss
    # nobody does: once more forward
    return network.loss(x, t)


def weight_of(network: Any, x: Array) -> Array | float:
    """Return the divisor of the mean that the loss of the batch `x` is: its rows, or what their weights add up to."""
    for owner in (getattr(network, "last_layer", None), getattr(network, "lastLayer", None)):
        weight = getattr(owner, "weight", None)
        if weight is not None:
            return weight
    return rows_in(x)


def update(optimizer: Optimizer, precision: MixedPrecision | None, params: Any, grads: Any) -> None:
    """Change the parameters, but for frozen ones."""
    params = getattr(params, "trained", params)
    if precision is None:
        optimizer.update(params, grads)
    else:
        precision.update(optimizer, params, grads)
