"""Learning rates that change during training."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from xpdl.ops.checks import number, positive_int
from xpdl.training.callbacks.base import Callback
from xpdl.training.callbacks.monitor import Monitor
from xpdl.training.messages import warn


class LearningRateSchedule(Callback):
    """Sets ``optimizer.lr`` before each step to the rate at the start times a factor.

    Several schedules of a training act together, whatever their order: the rate is the one at the start times the product of
    their factors, as of a warm-up beside `ReduceLROnPlateau`. Each counts positions from the beginning of the training.

    Parameters
    ----------
    factor : callable
        ``factor(position)`` with the position in epochs: 0.0 before the first step, 1.5 in the middle of the second epoch.

    Attributes
    ----------
    lr : float or None
        The rate at the start, the optimizer's own.

    Examples
    --------
    >>> schedule = LearningRateSchedule(lambda position: 1 / (1 + position))
    >>> schedule.factor(3.0)
    0.25
    """

    changes_training: ClassVar[bool] = True
    lr: float | None = None

    def __init__(self, factor: Callable[[float], float]) -> None:
        if not callable(factor):
            raise TypeError(f"LearningRateSchedule: factor must be a function of the position, got {factor!r}")
        self.factor = factor  # type: ignore[method-assign, assignment]

    def factor(self, position: float) -> float:
        """Return the factor of the rate at a position in epochs."""
        raise NotImplementedError(f"{type(self).__name__} has no factor")

    @property
    def spans_training(self) -> bool:
        """Return whether it depends on the number of epochs of the training."""
        return False

    def span(self, epochs: float) -> None:
        """Be told how many epochs the training has."""

    def on_train_begin(self, trainer: Any) -> None:
        if not hasattr(trainer.optimizer, "lr"):
            raise TypeError(f"{type(self).__name__}: {type(trainer.optimizer).__name__} has no lr for it to change")
        if trainer.iter_per_epoch is None:
            raise TypeError(
                f"{type(self).__name__}: needs the number of batches of an epoch, which x_train does not know; give it a "
                "__len__"
            )
        if self.lr is None:
            self.lr = float(trainer.optimizer.lr)
        self.span(trainer.epochs)

    def on_batch_begin(self, trainer: Any, step: int) -> None:
        position = (step - 1) / trainer.iter_per_epoch
        schedules = [one for one in trainer.callbacks.callbacks if isinstance(one, LearningRateSchedule)]
        trainer.optimizer.lr = self.lr * math.prod(one.factor(position) for one in schedules)  # type: ignore[operator]

    def state_dict(self) -> dict[str, Any]:
        """The rate at the start."""
        return {"lr": self.lr}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.lr = state["lr"]


class StepLR(LearningRateSchedule):
    """Multiplies the rate by `gamma` after every `step_size` epochs: ``gamma ** (epoch // step_size)``.

    Parameters
    ----------
    step_size : int
    gamma : float
    """

    def __init__(self, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = positive_int(step_size, "step_size", "StepLR")
        self.gamma = number(gamma, "gamma", "StepLR", "positive")

    def factor(self, position: float) -> float:
        return self.gamma ** (_epochs_over(position) // self.step_size)


class ExponentialLR(LearningRateSchedule):
    """Multiplies the rate by `gamma` after each epoch: ``gamma ** epoch``.

    Parameters
    ----------
    gamma : float
    """

    def __init__(self, gamma: float) -> None:
        self.gamma = number(gamma, "gamma", "ExponentialLR", "positive")

    def factor(self, position: float) -> float:
        return self.gamma ** _epochs_over(position)


class _OverEpochs(LearningRateSchedule):
    """A schedule over so many epochs, by default over the whole training."""

    def __init__(self, epochs: int | None) -> None:
        self.epochs = None if epochs is None else positive_int(epochs, "epochs", type(self).__name__)
        self._length: float = self.epochs or 1

    @property
    def spans_training(self) -> bool:
        return self.epochs is None

    def span(self, epochs: float) -> None:
        self._length = self.epochs or epochs


class CosineLR(_OverEpochs):
    """Anneal from the initial rate to `final` of it along half a cosine, step by step (arXiv:1608.03983, without restarts).

    Parameters
    ----------
    epochs : int, optional
        Over which to fall, by default all of the training; after them the rate stays.
    final : float
        Share of the rate that remains.
    """

    def __init__(self, epochs: int | None = None, final: float = 0.0) -> None:
        self.final = number(final, "final", "CosineLR", "at least 0")
        super().__init__(epochs)

    def factor(self, position: float) -> float:
        return _cosine(1.0, self.final, position / self._length)


class WarmupLR(LearningRateSchedule):
    """Raises the rate from `start` of it to all of it over the first `epochs`, in a straight line (arXiv:1706.02677).

    Parameters
    ----------
    epochs : float
        May be a fraction of an epoch.
    after : LearningRateSchedule, optional
        What the rate does then; its positions count from the end of the warm-up. `ReduceLROnPlateau` cannot stand here.
    start : float
        Share of the rate at the first step.
    """

    def __init__(self, epochs: float, after: LearningRateSchedule | None = None, start: float = 0.0) -> None:
        self.epochs = number(epochs, "epochs", "WarmupLR", "positive")
        self.start = number(start, "start", "WarmupLR", "at least 0")
        if after is not None and (not isinstance(after, LearningRateSchedule) or isinstance(after, ReduceLROnPlateau)):
            raise TypeError(f"WarmupLR: after must be a schedule such as CosineLR(), got {after!r}")
        self.after = self._after = after

    @property
    def spans_training(self) -> bool:
        return self.after is not None and self.after.spans_training

    def span(self, epochs: float) -> None:
        if self.after is not None:
            # a copy: the same object may stand elsewhere, where it spans other epochs
            self._after = copy.copy(self.after)
            self._after.span(max(1.0, epochs - self.epochs))

    def factor(self, position: float) -> float:
        if position < self.epochs:
            return self.start + (1.0 - self.start) * position / self.epochs
        return 1.0 if self._after is None else self._after.factor(position - self.epochs)


class OneCycleLR(_OverEpochs):
    """Up from `start` of the rate to all of it and down to `final` of it, each along half a cosine (arXiv:1708.07120).

    The optimizer's rate is the largest one. Momentum is left as it is; the paper lets it fall while the rate rises.

    Parameters
    ----------
    epochs : int, optional
        Length of the cycle, by default all of the training.
    rise : float
        Share of the cycle in which the rate rises.
    start, final : float
        Shares of the rate at the first step and at the end.
    """

    def __init__(self, epochs: int | None = None, rise: float = 0.3, start: float = 0.04, final: float = 4e-6) -> None:
        self.rise = number(rise, "rise", "OneCycleLR", "in [0, 1)")
        self.start = number(start, "start", "OneCycleLR", "at least 0")
        self.final = number(final, "final", "OneCycleLR", "at least 0")
        super().__init__(epochs)

    def factor(self, position: float) -> float:
        place = position / self._length
        if place < self.rise:
            return _cosine(self.start, 1.0, place / self.rise)
        return _cosine(1.0, self.final, (place - self.rise) / (1.0 - self.rise))


class ReduceLROnPlateau(LearningRateSchedule):
    """Multiplies the rate by `gamma` whenever a number has not improved for some epochs.

    Parameters
    ----------
    monitor : str, optional
        As in `EarlyStopping`.
    gamma : float
    patience : int
        Epochs without improvement after which the rate falls; they are counted anew then.
    min_delta : float
        What counts as an improvement: more than this.
    min_lr : float
        The rate does not fall below it, unless another schedule brings it there.
    """

    def __init__(
        self,
        monitor: str | None = None,
        gamma: float = 0.1,
        patience: int = 5,
        min_delta: float = 0.0,
        min_lr: float = 0.0,
    ) -> None:
        owner = "ReduceLROnPlateau"
        self.monitor = Monitor(monitor, owner)
        self.gamma = number(gamma, "gamma", owner, "in [0, 1)")
        self.patience = positive_int(patience, "patience", owner)
        self.min_delta = number(min_delta, "min_delta", owner, "at least 0")
        self.min_lr = number(min_lr, "min_lr", owner, "at least 0")
        self.best: float | None = None
        self.waited = self.reductions = 0

    def factor(self, position: float) -> float:
        lowest = min(1.0, self.min_lr / self.lr) if self.lr else 0.0
        return max(self.gamma**self.reductions, lowest)

    def on_epoch_end(self, trainer: Any, epoch: int) -> None:
        value = self.monitor.read(trainer)
        if self.monitor.better(value, self.monitor.worst if self.best is None else self.best, self.min_delta):
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.waited, self.reductions = 0, self.reductions + 1

    def state_dict(self) -> dict[str, Any]:
        """The rate at the start, how often it fell, and what is waited for."""
        kept = {name: getattr(self, name) for name in ("best", "waited", "reductions")}
        return {**super().state_dict(), **kept, "monitor": self.monitor.name}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict(state)
        self.best, self.waited, self.reductions = state["best"], state["waited"], state["reductions"]
        self.monitor.name = state["monitor"]


def warn_of_longer(callbacks: Iterable[Any], epochs: int, longer: int) -> None:
    """Warn of schedules over all epochs of a training that gets more of them."""
    for one in callbacks:
        if isinstance(one, LearningRateSchedule) and one.spans_training:
            kind = type(one).__name__
            warn(
                f"Trainer.train: {kind} spans the whole training, which now has {longer} epochs, not {epochs}: the learning "
                f"rate goes on as in a training of {longer}; give {kind} a number of epochs to avoid that"
            )


def _epochs_over(position: float) -> int:
    """Return the number of whole epochs; a position after a warm-up is a difference, which may be rounded down."""
    return int(position + 1e-9)


def _cosine(first: float, last: float, place: float) -> float:
    """Interpolate between `first` and `last` along half a cosine, for places from 0 to 1."""
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0.0, place))))
