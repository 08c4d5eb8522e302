"""The learning rate over a fit, and its end: a schedule, and early stopping by a loss in which rows count by weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpdl.backends import Backend
from xpdl.training.callbacks import CosineLR, EarlyStopping, LearningRateSchedule
from xpdl.training.callbacks.monitor import Monitor

#: parameter `schedule` -> callbacks
SCHEDULES: dict[str, tuple[Callable[[], LearningRateSchedule], ...]] = {"cosine": (CosineLR,), "constant": ()}
# In one pass.
_ROWS = 1000


class WeightedLoss(Monitor):
    """Reads the loss of the rows to validate with, weighted as the loss of the training is.

    A trainer measures with all rows alike: classes with small weights would decide when to stop.

    Parameters
    ----------
    weights : array (N,)
        Of the rows to validate with.
    """

    def __init__(self, weights: Any) -> None:
        super().__init__("val_loss", "EarlyStopping")
        self.weights = weights

    def read(self, trainer: Any) -> float:
        """The mean loss after the epoch that has just ended."""
        x, t, network = trainer.x_val, trainer.t_val, trainer.network
        backend, total = Backend.of(next(iter(network.params.values()))), 0.0
        for start in range(0, x.shape[0], _ROWS):
            part = slice(start, min(start + _ROWS, x.shape[0]))
            weights = self.weights[part]
            loss = network.loss(backend.asarray(x[part, ...]), t[part, ...], sample_weight=backend.asarray(weights))
            total += float(loss) * float(weights.sum())
        return total / float(self.weights.sum())


def early_stopping(patience: int, weights: Any) -> EarlyStopping:
    """Stop when the loss of the rows to validate with has not fallen for `patience` epochs; keep the best epoch's weights.

    Parameters
    ----------
    patience : int
    weights : array (N,) or None
        Of the rows to validate with.
    """
    stopping = EarlyStopping("val_loss", patience=patience)
    if weights is not None:
        stopping.monitor = WeightedLoss(weights)
    return stopping


def schedule(name: str, owner: str) -> list[LearningRateSchedule]:
    """Return the schedule of that name, or none for a rate that stays.

    Raises
    ------
    ValueError
        If there is no such name.
    """
    if name not in SCHEDULES:
        raise ValueError(
            f"{owner}: schedule must be one of {', '.join(SCHEDULES)}, got {name!r}; others, such as xpdl.StepLR(10), go "
            "into callbacks"
        )
    return [kind() for kind in SCHEDULES[name]]
