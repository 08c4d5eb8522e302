"""One number of a history to look at after each epoch, and which of two is better."""

from __future__ import annotations

import math
from typing import Any

LISTS = {
    "val_acc": "val_acc_list",
    "test_acc": "test_acc_list",
    "train_acc": "train_acc_list",
    "val_loss": "val_loss_list",
    "test_loss": "test_loss_list",
}


class Monitor:
    """Reads one number after each epoch.

    Parameters
    ----------
    name : str, optional
        ``"loss"``, the mean over the rows of the epoch, or an entry of `LISTS`; by default the first of them that the
        trainer measures.
    owner : str
        Stands in messages.
    """

    def __init__(self, name: str | None, owner: str) -> None:
        if name is not None and name != "loss" and name not in LISTS:
            raise ValueError(f"{owner}: monitor must be one of loss, {', '.join(LISTS)}, got {name!r}")
        self.name, self.owner = name, owner
        self._asked = name

    def __repr__(self) -> str:
        return repr(self._asked)

    def read(self, trainer: Any) -> float:
        """The number of the epoch that has just ended."""
        history = trainer.history
        if self.name is None:
            self.name = next(name for name, values in LISTS.items() if getattr(history, values))
        if self.name == "loss":
            return mean_of_epoch(trainer)
        values = getattr(history, LISTS[self.name])
        if not values:
            measured = ", ".join(name for name, other in LISTS.items() if getattr(history, other))
            raise ValueError(f"{self.owner}: {self.name} is not measured by this trainer; monitor loss, {measured}")
        return float(values[-1])

    def better(self, value: float, than: float, by: float = 0.0) -> bool:
        """Whether `value` is better than another by more than `by`; NaN never is."""
        return value > than + by if (self.name or "").endswith("acc") else value < than - by

    @property
    def worst(self) -> float:
        """What every number is better than."""
        return -math.inf if (self.name or "").endswith("acc") else math.inf


def mean_of_epoch(trainer: Any) -> float:
    """The mean loss of the rows of the epoch that has just ended, in training mode, each before the update of its step."""
    return float(trainer.history.epoch_loss_list[-1])
