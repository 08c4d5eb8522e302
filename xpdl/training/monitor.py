"""One number of a history to look at after each epoch, the better of two, and names of files with such numbers in them."""

from __future__ import annotations

import math
import string
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


def measured_by(trainer: Any) -> list[str]:
    """The entries of `LISTS` that a trainer is going to measure."""
    kind = "acc" if trainer.classifies else "loss"
    sets = {"val": trainer.x_val is not None, "test": True, "train": trainer.classifies}
    return [f"{name}_{kind}" for name, measured in sets.items() if measured]


def names_in(template: str, owner: str) -> frozenset[str]:
    """The names in a format string of ``epoch``, ``loss`` and the entries of `LISTS`.

    Raises
    ------
    ValueError
        If it is no such string.
    """
    known = ("epoch", "loss", *LISTS)
    try:
        names = frozenset(name for _, name, _, _ in string.Formatter().parse(template) if name is not None)
        if unknown := sorted(names - set(known)):
            raise ValueError(f"there is no {', '.join(map(repr, unknown))}")
        template.format(**{**dict.fromkeys(known, 0.5), "epoch": 1})
    except (ValueError, LookupError) as error:
        raise ValueError(
            f"{owner}: {template!r} is no format string of {', '.join(known)} ({error}); write '{{epoch:03d}}', say, "
            "and double braces that stand for themselves"
        ) from None
    return names


def formatted(template: str, trainer: Any, epoch: int) -> str:
    """A format string with the numbers of the epoch that has just ended."""
    history = trainer.history
    values = {name: getattr(history, values)[-1] for name, values in LISTS.items() if getattr(history, values)}
    return template.format(epoch=epoch, loss=mean_of_epoch(trainer), **values)


def mean_of_epoch(trainer: Any, epoch: int = 0) -> float:
    """The mean loss of the rows of an epoch, by default the last one: in training mode, before the update of each step."""
    return float(trainer.history.epoch_loss_list[epoch - 1])
