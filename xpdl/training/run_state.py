"""State of a training run: how far it is, and what a checkpoint holds besides."""

from __future__ import annotations

import contextlib
import dataclasses
import operator
from collections.abc import Callable
from typing import Any

from xpdl.backends import Backend
from xpdl.distributed import Communicator
from xpdl.training.history import History
from xpdl.training.precision.mixed import MixedPrecision
from xpdl.training.weighted_mean import WeightedMean


@dataclasses.dataclass
class RunState:
    """Progress of a training run.

    Attributes
    ----------
    epoch, step : int
        Completed ones; some of the steps may belong to the epoch that is under way.
    first_step : int
        Steps before that epoch.
    in_memory : bool
        Whether that epoch can go on from what is in memory: False inside a step, which an error may leave half made, and
        after a checkpoint was read.
    seconds : float
        Duration so far of that epoch.
    stopped : bool
        Whether the run ends with it.
    history : History
        Measurements up to the last step that is read from the device.
    epoch_loss : WeightedMean
        Of the steps of that epoch.
    pending : list of (loss, weight)
        Losses of steps that are not read from the device yet, each with the weight of its rows.
    ranks : int
        Processes that share a batch.
    """

    epoch: int = 0
    step: int = 0
    first_step: int = 0
    in_memory: bool = False
    seconds: float = 0.0
    stopped: bool = False
    history: History = dataclasses.field(default_factory=History)
    epoch_loss: WeightedMean = dataclasses.field(default_factory=WeightedMean)
    pending: list[tuple[Any, Any]] = dataclasses.field(default_factory=list)
    ranks: int = 1

    def is_between_epochs(self) -> bool:
        """Return whether no epoch is under way."""
        return self.step == self.first_step

    def restart_epoch(self) -> None:
        """Go back to the start of the epoch that is under way; its steps are made again."""
        self.step, self.seconds, self.in_memory = self.first_step, 0.0, False
        del self.history.train_loss_list[self.step :]

    def where(self) -> str:
        """Describe the position in words."""
        if self.is_between_epochs():
            return f"epoch {self.epoch}"
        return f"step {self.step}, in epoch {self.epoch + 1}"


def in_state(path: str) -> Any:
    """Make a property of a trainer that lies in its `RunState`; what lies deeper is read-only."""
    write = None if "." in path else lambda self, value: setattr(self.state, path, value)
    return property(operator.attrgetter(f"state.{path}"), write)


class Owner:
    """A training as the owner of objects with a state: all calls of one trainer's ``train``.

    Attributes
    ----------
    under_way : bool
        Inside a call.
    begun : bool
        After the first call reached its first step.
    """

    def __init__(self) -> None:
        self.under_way = self.begun = False


@dataclasses.dataclass(frozen=True)
class Run:
    """The objects that a training changes, and the settings that it needs again to resume from a checkpoint.

    Attributes
    ----------
    owner : Owner
    network : object
    optimizer : Optimizer, or an object with ``update(params, grads)``
    precision : MixedPrecision or None
    callbacks : list
    backend : Backend
        Of the network.
    epochs, steps_per_epoch, batch_size, last_batch_size : int
        Of the whole training; `steps_per_epoch` is None where nobody knows it before.
    last_epoch : int
        The epoch after which the present call of ``train`` ends.
    communicator : Communicator
        Of the ranks that share a batch.
    fingerprint : callable
        Gives the settings that must be equal to resume, see `xpdl.training.checkpoint.fingerprint`.
    sharded : ShardedUpdate or None
        Has the optimizer's state in pieces.
    span : callable
        ``span(False)`` gives the first row of this rank in a batch, the one after its last, and the rows of all.
    """

    owner: Owner
    network: Any
    optimizer: Any
    precision: MixedPrecision | None
    callbacks: list[Any]
    backend: Backend
    epochs: int
    steps_per_epoch: int | None
    batch_size: int
    last_batch_size: int
    communicator: Communicator
    fingerprint: Callable[[], dict[str, Any]]
    sharded: Any = None
    span: Callable[[bool], tuple[int, int, int]] = lambda last: (0, 0, 0)
    last_epoch: int = 0

    def with_whole_state(self) -> contextlib.AbstractContextManager[None]:
        """Give a context in which the optimizer of rank 0 has its whole state; all ranks enter it."""
        return contextlib.nullcontext() if self.sharded is None else self.sharded.whole()
