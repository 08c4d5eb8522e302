"""One number of a history to look at after each epoch, the better of two, and names of files with such numbers in them."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterable
from typing import Any

from xpdl.training.history import LISTS
from xpdl.training.measures import Measure

# Of a data set; the loss of the rows to train with is the one of the steps, "loss".
_NAME = re.compile(r"(train|val|test)_(?!$)\w+(?<!^train_loss)")
_ACCURACIES = ("train_accuracy", "val_accuracy", "test_accuracy")
_LOWER = re.compile(r".*(loss|_mse|_mae)")


class Monitor:
    """Reads one number after each epoch.

    Parameters
    ----------
    name : str, optional
        ``"loss"``, the mean over the rows of the epoch, an entry of `LISTS`, or a metric of the trainer such as
        ``"val_f1"``; by default the first of `LISTS` that the trainer measures.
    owner : str
        Stands in messages.
    """

    def __init__(self, name: str | None, owner: str) -> None:
        if name is not None and not (isinstance(name, str) and (name == "loss" or _NAME.fullmatch(name))):
            raise ValueError(
                f"{owner}: monitor must be one of loss, {', '.join(LISTS)}, or a metric such as val_f1, got {name!r}"
            )
        self.owner = owner
        self.name = re.sub("_accuracy$", "_acc", name) if name in _ACCURACIES else name
        self._asked = name
        self._greater: bool | None = None

    def __repr__(self) -> str:
        return repr(self._asked)

    def check(self, trainer: Any) -> None:
        """Refuse, before the first step, what will not be measured, or has no better and worse.

        Raises
        ------
        ValueError
            With the names that there will be.
        """
        names = measured_by(trainer)
        if self.name is not None and self.name not in names:
            raise self._unmeasured(names)
        # not what an earlier trainer called by the same name
        self._greater = None
        own = {name: one for name, one in names.items() if one is not None}
        if self.name in own:
            self._greater = own[self.name].greater_is_better
            if self._greater is None:
                raise ValueError(
                    f"{self.owner}: nothing says whether more of {self.name} is better; set greater_is_better = True or "
                    "False on the function"
                )

    def read(self, trainer: Any) -> float:
        """The number of the epoch that has just ended."""
        last = trainer.history.last()
        if self.name is None:
            self.name = next((name for name in LISTS if name in last), "loss")
        if self.name == "loss":
            return mean_of_epoch(trainer)
        if self.name not in last:
            raise self._unmeasured(["loss", *last])
        return float(last[self.name])

    def _unmeasured(self, names: Iterable[str]) -> ValueError:
        return ValueError(f"{self.owner}: {self.name} is not measured by this trainer; monitor {', '.join(names)}")

    @property
    def _upwards(self) -> bool:
        return not _LOWER.fullmatch(self.name or "loss") if self._greater is None else self._greater

    def better(self, value: float, than: float, by: float = 0.0) -> bool:
        """Return whether `value` is better than another by more than `by`; NaN never is."""
        return value > than + by if self._upwards else value < than - by

    @property
    def worst(self) -> float:
        """Return what every number is better than."""
        return -math.inf if self._upwards else math.inf


def measured_by(trainer: Any) -> dict[str, Measure | None]:
    """Return the names of all that a trainer measures, ``"loss"`` first, and the metrics behind them."""
    return {"loss": None, **trainer.evaluator.measured()}


def check_monitors(trainer: Any) -> None:
    """Refuse a callback that monitors what will not be measured; see `Monitor.check`."""
    for callback in trainer.callbacks.callbacks:
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, Monitor):
            monitor.check(trainer)


def names_in(template: str, owner: str) -> frozenset[str]:
    """The names in a format string of ``epoch``, ``loss``, the entries of `LISTS`, and metrics such as ``val_f1``.

    Raises
    ------
    ValueError
        If it is no such string.
    """
    known = ("epoch", "loss", *LISTS)
    try:
        names = frozenset(name for _, name, _, _ in string.Formatter().parse(template) if name is not None)
        if unknown := sorted(name for name in names if name not in known and not _NAME.fullmatch(name)):
            raise ValueError(f"there is no {', '.join(map(repr, unknown))}")
        template.format(**{**dict.fromkeys(names, 0.5), "epoch": 1})
    except (ValueError, LookupError) as error:
        raise ValueError(
            f"{owner}: {template!r} is no format string of {', '.join(known)} ({error}); write '{{epoch:03d}}', say, "
            "and double braces that stand for themselves"
        ) from None
    return names


def formatted(template: str, trainer: Any, epoch: int) -> str:
    """A format string with the numbers of the epoch that has just ended."""
    return template.format(epoch=epoch, loss=mean_of_epoch(trainer), **trainer.history.last())


def mean_of_epoch(trainer: Any, epoch: int = 0) -> float:
    """The mean loss of the rows of an epoch, by default the last one: in training mode, before the update of each step."""
    return float(trainer.history.epoch_loss_list[epoch - 1])
