"""The parts of one training step."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from xpdl.backends.namespaces import Array, is_array, is_host
from xpdl.optimizers import Optimizer
from xpdl.training.gradient_accumulator import Accumulated
from xpdl.training.precision.mixed import MixedPrecision

if TYPE_CHECKING:
    from xpdl.training.trainer import Trainer

# Losses on a device are read together: often enough to stop soon after the first NaN, seldom enough that the device hardly
# ever waits for the host.
STEPS_BETWEEN_READS = 100


def make(trainer: Trainer, accumulated: Accumulated, x: Array, t: Array, *sample_weight: Array) -> tuple[Any, bool]:
    """Make a step of a training on a batch; its loss, and whether it has updated the parameters."""
    network, precision, captured = trainer.network, trainer.precision, trainer.captured
    reads = len(trainer.unread) + 1 >= STEPS_BETWEEN_READS
    made = None if captured is None or reads else captured.step(x, t, *sample_weight)
    if made is not None:
        trainer.unread.append(made)
        trainer.current_iter += 1
        return made[0], True
    with contextlib.nullcontext() if captured is None else captured.alike():
        grads = gradient(network, precision, x, t, *sample_weight)
    found, of_rows = loss(network, x, t), weight(network, x)
    trainer.unread.append((found, of_rows))
    # before the update, which would spread a NaN over all parameters
    if reads or not is_array(found) or is_host(found):
        trainer.read_losses(x, t, grads)
    trainer.current_iter += 1
    grads = accumulated.add(grads, of_rows, trainer.current_iter % trainer.iter_per_epoch == 0)
    if grads is not None:
        update(trainer.optimizer, precision, network.params, grads)
    return found, grads is not None


def gradient(network: Any, precision: MixedPrecision | None, x: Array, t: Array, *sample_weight: Array) -> Any:
    """Gradients by the names of the parameters."""
    if precision is None:
        return network.gradient(x, t, *sample_weight)
    return precision.gradient(network, x, t, *sample_weight)


def loss(network: Any, x: Array, t: Array) -> Any:
    """The loss that the gradient computed on its way, on the device, where the network or its last layer keeps it."""
    for owner in (network, getattr(network, "last_layer", None), getattr(network, "lastLayer", None)):
        for name in ("last_loss", "loss"):
            found = getattr(owner, name, None)
            if found is not None and not callable(found):
                return found
    # nobody does: once more forward
    return network.loss(x, t)


def weight(network: Any, x: Array) -> Array | float:
    """The divisor of the mean that the loss of the batch `x` is: its rows, or what their weights add up to."""
    for owner in (getattr(network, "last_layer", None), getattr(network, "lastLayer", None)):
        found = getattr(owner, "weight", None)
        if found is not None:
            return found
    return int(x.shape[0])


def update(optimizer: Optimizer, precision: MixedPrecision | None, params: Any, grads: Any) -> None:
    """Change the parameters."""
    if precision is None:
        optimizer.update(params, grads)
    else:
        precision.update(optimizer, params, grads)
