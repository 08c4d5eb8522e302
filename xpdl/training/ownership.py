"""The state of a training in objects that another one may be given, too: callbacks, a loss scale, an optimizer.

The rule: what ``state_dict`` gives is the state of a run, all else is configuration. Before a trainer's first step, each
object with a state is put back to the one that it had before its first training. An optimizer is refused instead: its
state belongs to parameters, and its hyper-parameters may have been changed by a schedule or on purpose.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import weakref
from collections.abc import Iterator
from typing import Any

from xpdl.optimizers import Optimizer
from xpdl.training.callbacks import state as callback_state
from xpdl.training.callbacks.base import Callback
from xpdl.training.run_state import Owner, Run

# The attribute of an object that holds its `_Use`.
_USE = "training_use"
# by identity: networks that trials of a search and fits of scikit-learn have trained
_trained: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


@dataclasses.dataclass
class _Use:
    """The training that an object's state belongs to, and the state before its first one."""

    owner: Owner
    first: Any


@contextlib.contextmanager
def under_way(run: Run) -> Iterator[None]:
    """Keep other trainings from the objects of this one while it runs; `ValueError` as by `_require_free`.

    Raises
    ------
    RuntimeError
        If it runs already.
    """
    if run.owner.under_way:
        raise RuntimeError(
            "Trainer.train: this training is under way, in another thread or further up, as in a callback; let it end first"
        )
    _require_free(run)
    run.owner.under_way = True
    try:
        yield
    finally:
        run.owner.under_way = False


def _require_free(run: Run) -> None:
    """Refuse objects whose state is another training's, and not this one's to reset.

    Raises
    ------
    ValueError
        If another training that has not ended uses one, or has used it since this one began.
    """
    uses = [(shown, use.owner) for shown, thing in _stateful(run) if (use := vars(thing).get(_USE)) is not None]
    if (other := _user_of(run.optimizer)) is not None:
        uses.append((run.optimizer, other))
    for shown, other in uses:
        if other is run.owner:
            continue
        if other.under_way:
            raise ValueError(f"Trainer: {shown!r} is in use by a training that has not ended; make another one")
        if run.owner.begun:
            raise ValueError(
                f"Trainer: {shown!r} has been used by another training since this one; make one for each Trainer"
            )


def begin(run: Run, resumed: bool) -> None:
    """Give each object the state of a run that begins; those of a run that goes on are left as they are.

    Parameters
    ----------
    run : Run
    resumed : bool
        Whether a checkpoint's state is loaded next, into the optimizer already.

    Raises
    ------
    ValueError
        If the optimizer has a state of other parameters, or a callback cannot be put back.
    """
    owner = run.owner
    if not resumed and _user_of(run.optimizer) is not owner:
        _require_unused(run.optimizer, run.network.params)
    if isinstance(run.optimizer, Optimizer):
        run.optimizer.run = owner
    elif hasattr(run.optimizer, "__dict__"):
        vars(run.optimizer)[_USE] = _Use(owner, None)
    for shown, thing in _stateful(run):
        use: _Use | None = vars(thing).get(_USE)
        if use is None:
            vars(thing)[_USE] = _Use(owner, copy.deepcopy(thing.state_dict()))
            continue
        if use.owner is not owner or resumed:
            try:
                thing.load_state_dict(copy.deepcopy(use.first))
            except Exception as error:
                raise ValueError(
                    f"Trainer: {shown!r} cannot be put back to its state before its first training ({error!r}); make one "
                    "for each Trainer"
                ) from error
        use.owner = owner


def require_new(network: Any, owner: str) -> None:
    """Refuse a network that an earlier trial or fit has trained: the results would depend on one another.

    Raises
    ------
    ValueError
        If it has been here before.
    """
    if _trained.get(id(network)) is not None:
        raise ValueError(f"{owner}: build returned the network of an earlier training; make a new one in build")
    with contextlib.suppress(TypeError):  # one of another library may not be referred to weakly
        _trained[id(network)] = network


def _stateful(run: Run) -> Iterator[tuple[Any, Any]]:
    """(what the user gave, what has its state)."""
    for _, callback in callback_state.named(run.callbacks):
        # a subclass without a state of its own is not touched
        if getattr(type(callback), "state_dict", None) is not Callback.state_dict and hasattr(callback, "__dict__"):
            yield callback, callback
    if run.precision is not None:
        yield run.precision, run.precision.loss_scale


def _user_of(optimizer: Any) -> Owner | None:
    """Return the training that an optimizer was last used by."""
    if isinstance(optimizer, Optimizer):
        user: Owner | None = optimizer.run
        return user
    use: _Use | None = getattr(optimizer, "__dict__", {}).get(_USE)
    return None if use is None else use.owner


def _require_unused(optimizer: Any, params: Any) -> None:
    cure = "make a new one for each Trainer, or pass its name; to go on with its state, load its state_dict() into a new one"
    user = _user_of(optimizer)
    if user is not None and user.begun:
        raise ValueError(f"Trainer: {optimizer!r} has been used by another training; {cure}")
    if not isinstance(optimizer, Optimizer):
        return
    for kind in optimizer.state_names:
        for name, array in getattr(optimizer, kind).items():
            if name not in params:
                raise ValueError(
                    f"Trainer: {optimizer!r} has a state of {name!r}, no parameter of this network; {cure}"
                )
            if tuple(array.shape) != tuple(params[name].shape):
                raise ValueError(
                    f"Trainer: {optimizer!r} has a state of shape {tuple(array.shape)} for {name!r}, which has shape "
                    f"{tuple(params[name].shape)} in this network; {cure}"
                )
    # unknown for rebound arrays, as those of JAX
    updated = None if optimizer.updated is None else optimizer.updated()
    if optimizer.state_names and updated is not None and not any(p is updated for p in params.values()):
        raise ValueError(f"Trainer: {optimizer!r} has updated other parameters; {cure}")
