"""Optimizers that are not of xpdl: any object with ``update(params, grads)``, such as the book's."""

from __future__ import annotations

import copy
from typing import Any

from xpdl.backends import Backend
from xpdl.optimizers import Optimizer
from xpdl.training.callbacks import state as callback_state

# Attribute that `xpdl.training.ownership` sets on an optimizer in use; no state of the rule.
_NOTES = "training_use"


class OptimizerState:
    """The state of such an optimizer, for a file: that of its ``state_dict()``, or else all of its attributes."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self._has_methods = all(callable(getattr(optimizer, n, None)) for n in ("state_dict", "load_state_dict"))

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        if self._has_methods:
            state: dict[str, Any] = self.optimizer.state_dict()
            return state
        return {name: value for name, value in vars(self.optimizer).items() if name != _NOTES}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        if self._has_methods:
            self.optimizer.load_state_dict(state)
        else:
            vars(self.optimizer).update(copy.copy(state))


def stateful(optimizer: Any) -> list[OptimizerState]:
    """Return what a checkpoint keeps beside callbacks: nothing for an `Optimizer`, which a file has a place for."""
    return [] if isinstance(optimizer, Optimizer) else [OptimizerState(optimizer)]


def described(optimizer: Any) -> str:
    """Return its class and numbers, the same in every process."""
    if isinstance(optimizer, Optimizer):
        return repr(optimizer)
    numbers = {name: value for name, value in getattr(optimizer, "__dict__", {}).items() if _is_plain(value)}
    return f"{type(optimizer).__name__}({', '.join(f'{name}={value!r}' for name, value in numbers.items())})"


def check(optimizer: Any, backend: Backend, *, checkpoint: bool, precision: bool) -> None:
    """Refuse options that such an optimizer cannot go with.

    Raises
    ------
    TypeError
        If there is a `precision`, or a `checkpoint` that could not hold its state.
    """
    if isinstance(optimizer, Optimizer):
        return
    kind = type(optimizer).__name__
    if precision:
        raise TypeError(f"Trainer: precision= needs an optimizer of xpdl, which can skip an update, got {kind}")
    if not checkpoint:
        return
    try:
        callback_state.to_file(stateful(optimizer), backend)
    except (TypeError, AttributeError) as error:
        raise TypeError(
            f"Trainer: a checkpoint cannot keep the state of {kind} ({error}); give it state_dict() and "
            "load_state_dict(state)"
        ) from error


def _is_plain(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str))
