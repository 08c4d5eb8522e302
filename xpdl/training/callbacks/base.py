"""Objects that a training calls at set moments."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, ClassVar

from xpdl.training.stable_repr import described

#: method of a callback -> its arguments
EVENTS = {
    "on_train_begin": ("trainer",),
    "on_epoch_begin": ("trainer", "epoch"),
    "on_batch_begin": ("trainer", "step"),
    "on_batch_end": ("trainer", "step"),
    "on_test_begin": ("trainer", "epoch"),
    "on_epoch_end": ("trainer", "epoch"),
    "on_train_end": ("trainer",),
}


class Callback:
    """An object that a `Trainer` calls at set moments; a subclass gives the methods it needs.

    Epochs and steps count from 1. ``trainer.history`` holds what was measured, up to the last step read from the device, and
    all of it when an epoch ends. Setting ``trainer.stop_training`` ends the training with the epoch. Any object with some of
    these methods will do.

    One rule divides what an object holds: **what** `state_dict` **gives is the state of a run, all else is configuration.**
    A checkpoint keeps the state. A `Trainer` that begins puts it back, by `load_state_dict`, to the one before the object's
    first training, so that one object may serve several trainings, one after the other; a trainer that goes on leaves it as
    it is. What `on_train_begin` assigns anew needs no such care. An object without the two methods keeps what it holds.
    """

    #: True if its arguments affect the training, so that a run resumed from a checkpoint needs the same ones
    changes_training: ClassVar[bool] = False
    #: True if, in a training by several ranks, only rank 0 calls it, as it writes files
    on_rank_0_only: ClassVar[bool] = False

    def on_train_begin(self, trainer: Any) -> None:
        """Before the first step, after a checkpoint was read."""

    def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
        """Before the first step of an epoch."""

    def on_batch_begin(self, trainer: Any, step: int) -> None:
        """Before the gradient of a step; the place to set ``trainer.optimizer.lr``."""

    def on_batch_end(self, trainer: Any, step: int) -> None:
        """After the update of a step."""

    def on_test_begin(self, trainer: Any, epoch: int) -> None:
        """After the last step of an epoch, before its measurements; the place to change what is measured."""

    def on_epoch_end(self, trainer: Any, epoch: int) -> None:
        """After the measurements of an epoch."""

    def on_train_end(self, trainer: Any) -> None:
        """After the last epoch."""

    def state_dict(self) -> dict[str, Any]:
        """The state of a run: numbers, strings, arrays, and lists and dicts (by str) of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""

    def __repr__(self) -> str:
        return described(self)


def _require_callback(callback: Any) -> None:
    """Refuse what has none of the methods in `EVENTS`, or one that takes other arguments than it will get."""
    methods = {event: method for event in EVENTS if callable(method := getattr(callback, event, None))}
    if isinstance(callback, type) or not methods:
        made = f"; write {callback.__name__}() rather than {callback.__name__}" if isinstance(callback, type) else ""
        raise TypeError(
            f"Trainer: a callback is an object with at least one of {', '.join(EVENTS)}, got {callback!r}{made}"
        )
    for event, method in methods.items():
        given = EVENTS[event]
        try:
            signature = inspect.signature(method)
        except ValueError:  # of some functions written in C
            continue
        try:
            signature.bind(*given)
        except TypeError:
            raise TypeError(
                f"Trainer: {type(callback).__name__}.{event} gets {', '.join(given)}, and takes {signature}; write "
                f"def {event}(self, {', '.join(given)})"
            ) from None


class Callbacks:
    """Objects that each have some of the methods in `EVENTS`, called in their order."""

    def __init__(self, callbacks: Iterable[Any], rank: int = 0) -> None:
        self.rank = rank
        if not isinstance(callbacks, Iterable):
            raise TypeError(f"Trainer: callbacks must be a list of objects, got {callbacks!r}")
        self.callbacks = list(callbacks)
        for number, callback in enumerate(self.callbacks):
            if isinstance(callback, Callback) and any(callback is earlier for earlier in self.callbacks[:number]):
                raise ValueError(
                    f"Trainer: callbacks has one object twice, {callback!r}; make another one, or remove it"
                )
            _require_callback(callback)

    def call(self, event: str, *args: Any) -> None:
        for callback in self.callbacks:
            method = getattr(callback, event, None)
            if method is not None and (self.rank == 0 or not getattr(callback, "on_rank_0_only", False)):
                method(*args)
