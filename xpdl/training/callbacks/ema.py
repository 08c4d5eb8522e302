"""Exponential moving averages of weights over the steps of a training."""

from __future__ import annotations

from typing import Any, ClassVar

from xpdl.backends.graphs import no_graph
from xpdl.backends.namespaces import Array, widened
from xpdl.ops.checks import number
from xpdl.training.callbacks.base import Callback
from xpdl.training.network_state import copies, named_arrays, put_back


class EMA(Callback):
    """Exponential moving average of weights and running statistics; the network has it at the end.

    After each step ``average = d average + (1 - d) weights`` with ``d = min(decay, (1 + step) / (10 + step))``, so that it
    follows quickly at first (as TensorFlow's ``ExponentialMovingAverage`` does when it is told the step). Training goes on
    with the weights as they are.

    Parameters
    ----------
    decay : float
        In [0, 1): how much of the average stays at each step.

    Attributes
    ----------
    average : dict
        Name -> averaged array.

    Notes
    -----
    What the trainer measures after an epoch is measured with the averages: they stand in the network from the end of an
    epoch's steps to the first of the next. Counters of dropout masks are no averages and stay as they are.
    """

    changes_training: ClassVar[bool] = True

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = number(decay, "decay", "EMA", "in [0, 1)")
        self.average: dict[str, Array] = {}
        self._weights: dict[str, Array] = {}

    def on_train_begin(self, trainer: Any) -> None:
        if not self.average:
            self.average = copies(trainer.network)

    def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
        if self._weights:
            put_back(trainer.network, self._weights)
            self._weights = {}

    def on_batch_end(self, trainer: Any, step: int) -> None:
        d = min(self.decay, (1.0 + step) / (10.0 + step))
        for name, owner, key in named_arrays(trainer.network):
            with no_graph(owner[key]):
                # in float32 for half precision, where so little of a new value would be lost
                self.average[name] = widened(self.average[name]) * d + widened(owner[key]) * (1.0 - d)

    def on_test_begin(self, trainer: Any, epoch: int) -> None:
        if not self._weights:  # or they are in the network already, where measuring broke off
            self._weights = copies(trainer.network)
        put_back(trainer.network, self.average)

    def state_dict(self) -> dict[str, Any]:
        """Averages, and the weights that training goes on with."""
        return {
            **{f"average.{name}": array for name, array in self.average.items()},
            **{f"weights.{name}": array for name, array in self._weights.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.average, self._weights = (
            {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
            for prefix in ("average.", "weights.")
        )
