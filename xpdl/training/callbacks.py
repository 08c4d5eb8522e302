"""Calling what wants to be called during training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

EVENTS = ("on_train_begin", "on_epoch_begin", "on_batch_end", "on_epoch_end", "on_train_end")


class Callbacks:
    """Objects that each have some of the methods in `EVENTS`, called in their order."""

    def __init__(self, callbacks: Iterable[Any]) -> None:
        if not isinstance(callbacks, Iterable):
            raise TypeError(f"Trainer: callbacks must be a list of objects, got {callbacks!r}")
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            if isinstance(callback, type) or not any(callable(getattr(callback, event, None)) for event in EVENTS):
                raise TypeError(
                    f"Trainer: a callback is an object with at least one of {', '.join(EVENTS)}, got {callback!r}"
                )

    def call(self, event: str, *args: Any) -> None:
        for callback in self.callbacks:
            method = getattr(callback, event, None)
            if method is not None:
                method(*args)
