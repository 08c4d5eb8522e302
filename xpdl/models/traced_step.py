"""Training steps that a compiler traces as a whole: forward, backward and update are one compiled function."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from xpdl.backends.capture import Compiler
from xpdl.backends.namespaces import Array, is_array
from xpdl.data.structure import arrays_of
from xpdl.errors import DTypeError, LabelError, MixedArraysError, ShapeError
from xpdl.models.step_passes import Entry, StepPasses
from xpdl.optimizers.groups import Group, groups_of
from xpdl.optimizers.update import make_slot_variables

Numbers = list[dict[str, float]]

# errors of arguments, which an eager step raises as well
_OF_EAGER_STEPS = (ShapeError, DTypeError, LabelError, MixedArraysError)


class TracedStep:
    """A compiled step for batches of one shape, which updates the parameters or only accumulates its gradients.

    Its arguments are the parameters, the optimizer's state, the arrays that layers keep in their ``state``, the states that
    recurrent layers go on with, accumulated gradients, the scale of the loss, the keys of random masks, the batch, and the
    numbers of the update rule that change from step to step, such as the learning rate. All else is constant in it. While
    it is traced, layers hold stand-ins for arrays; afterwards, they and the optimizer are as they were before, and a call
    gives them the new arrays.

    Raises
    ------
    RuntimeError
        If the step cannot be traced, with the reason.
    """

    def __init__(self, passes: StepPasses, compiler: Compiler, batch: tuple[Array, ...], updates: bool) -> None:
        self.passes, self.network, self.optimizer, self.updates = passes, passes.network, passes.optimizer, updates
        make_slot_variables(self.optimizer, dict(self.network.params.trained))
        self._batch = [(a.shape, a.dtype) for _, a in arrays_of(batch)]
        self._setting = self._settings()
        self._advances: list[tuple[dict[str, Any], str, int]] = []
        self._rows: list[tuple[dict[str, Any], str, int]] = []
        self._weight: float | None = None
        self._places: list[Entry] = []
        self.compiled = compiler.compiled(self._body)
        try:
            self.compiled.trace(*self._arguments(batch))
        except _OF_EAGER_STEPS:
            raise
        except Exception as error:
            raise RuntimeError(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error

    def fits(self, batch: tuple[Array, ...]) -> bool:
        """Return whether the traced step is still the one to be made, and look up the numbers of the update to come."""
        return [(a.shape, a.dtype) for _, a in arrays_of(batch)] == self._batch and self._setting == self._settings()

    def follows_larger(self) -> bool:
        """Return whether a layer has seen a larger batch before, beside whose statistics the next one counts less."""
        return any(owner[key] > rows for owner, key, rows in self._rows)

    def launch(self, batch: tuple[Array, ...]) -> tuple[Array, Array | float]:
        """Make the step on a batch, and return its loss and the weight of its rows."""
        new, (loss, weight) = self.compiled(*self._arguments(batch))
        for (owner, key), array in zip(self._places, new, strict=True):
            owner[key] = array
        for owner, key, by in self._advances:
            owner[key] += by
        for owner, key, rows in self._rows:
            owner[key] = rows
        self.optimizer.iter += self.updates
        self.passes.accumulator.count_batch(self.updates)
        self.network.last_loss = loss
        return loss, self._weight if weight is None else weight

    def _arguments(self, batch: tuple[Array, ...]) -> tuple[list[Array], dict[tuple[int, ...], int], Any, Any]:
        state = [(owner, key) for _, owner, key in self.network.named_state()]
        slots = [
            (kept, name)
            for kind in self.optimizer.state_names
            for kept in [getattr(self.optimizer, kind)]
            for name in kept
        ]
        params = [(owner, key) for _, owner, key in self.network.named_params()]
        places = (*params, *state, *slots, *self.passes.kept())
        self._places = [(owner, key) for owner, key in places if is_array(owner[key])]
        counters = {tuple(owner["stream"]): owner[key] for owner, key in state if key == "step" and "stream" in owner}
        numbers: Any = [changing for _, _, changing in self._numbers]
        if self.passes.scale():  # the device knows the number of the update, as it may have skipped some
            numbers = {"lr": self.optimizer.lr, "updates": self.optimizer.iter + 1}
        return [owner[key] for owner, key in self._places], counters, numbers, batch

    def _body(self, kept: list[Array], numbers: Any, batch: tuple[Array, ...]) -> Any:
        objects = [*self.network.savers(), *self.network.last_layer.tree(), self.optimizer, self.passes.accumulator]
        with _unchanged([*(vars(one) for one in objects), *(owner for owner, _ in self.passes.scale())]):
            for (owner, key), array in zip(self._places, kept, strict=True):
                owner[key] = array
            counts = [
                (owner, key, owner[key]) for _, owner, key in self.network.named_state() if type(owner[key]) is int
            ]
            for owner, key, _ in counts:
                if key == "rows":
                    owner[key] = 0
            if isinstance(numbers, dict):
                _give_rate(self.optimizer, **numbers)
            else:
                _give_numbers(self.optimizer, self.network.params.trained, numbers)
            grads = self.passes.gradient(*batch)
            loss, weight = self.passes.result(*batch[:2])
            self.passes.accumulate(grads, weight, last=self.updates)
            self.passes.kept()  # sums of zeros after an update
            self._rows = [(owner, key, owner[key]) for owner, key, _ in counts if key == "rows"]
            self._advances = [
                (owner, key, owner[key] - n) for owner, key, n in counts if key != "rows" and owner[key] != n
            ]
            for owner, key, by in self._advances:
                if by != 1:
                    raise RuntimeError(
                        f"a layer counts {key!r} up by {by} in a step, and a repetition draws one mask for it"
                    )
                if key != "step" or "stream" not in owner:
                    raise RuntimeError(f"a layer counts {key!r} on the host, which the compiled step would not see")
            self._weight = None if is_array(weight) else weight
            return [owner[key] for owner, key in self._places], (loss, weight if is_array(weight) else None)

    def _settings(self) -> tuple[Any, ...]:
        """Numbers that are constant in the traced step."""
        o = self.optimizer
        params = self.network.params
        self._numbers = _numbers(o, params.trained)
        groups = [entry[:2] for entry in self._numbers]
        return groups, list(params.frozen), o.l1, o.l2, o.max_norm, o.clip_norm


def _numbers(optimizer: Any, params: Any) -> list[tuple[Group, dict[str, Any], dict[str, float]]]:
    """For the update to come, the numbers of the rule for each group of parameters: constant ones, and changing ones.

    Those change that depend on the learning rate or on the number of the update.
    """
    lr, updates = optimizer.lr, optimizer.iter
    found = []
    try:
        for group in groups_of(dict(params), optimizer.decay, optimizer.lr_groups, type(optimizer).__name__):
            optimizer.iter = updates + 1
            with group.applied(optimizer):
                now = _scalars(optimizer)
            optimizer.lr, optimizer.iter = 2.0 * lr + 1.0, updates + 2
            with group.applied(optimizer):
                later = _scalars(optimizer)
            optimizer.lr = lr
            changing = {name: float(value) for name, value in now.items() if later[name] != value}
            found.append((group, {name: value for name, value in now.items() if name not in changing}, changing))
    finally:
        optimizer.lr, optimizer.iter = lr, updates
    return found


def _scalars(optimizer: Any) -> dict[str, Any]:
    """Numbers of the rule, as if no update had been skipped."""
    return {name: value for name, value in optimizer.known_scalars().items() if name not in ("rate", "updates")}


def _give_numbers(optimizer: Any, params: Any, numbers: Numbers) -> None:
    """Let the rule have these numbers, a dict for each group of parameters, until the attributes are restored."""
    # groups are told apart by their numbers; at a rate of 0 those of all would be equal
    optimizer.lr = 1.0
    groups = [{**constant, **changing} for _, constant, changing in _numbers(optimizer, params)]
    own = optimizer.scalars
    optimizer.scalars = lambda: {**(now := own()), **numbers[groups.index(now)]}


def _give_rate(optimizer: Any, lr: Array, updates: Array) -> None:
    """Let the rule compute with a learning rate and a number of the update, until the attributes are restored."""
    # that of a group is then its factor
    optimizer.lr = 1.0
    own = optimizer.scalars

    def scalars() -> dict[str, Any]:
        factor, count = optimizer.lr, optimizer.iter
        vars(optimizer).update(lr=factor * lr, iter=updates)
        try:
            return dict(own())
        finally:
            vars(optimizer).update(lr=factor, iter=count)

    optimizer.scalars = scalars


@contextlib.contextmanager
def _unchanged(attributes: list[dict[str, Any]]) -> Iterator[None]:
    """Restore attributes of objects at the end, and the contents of those that are dicts."""
    dicts = [value for own in attributes for value in own.values() if type(value) is dict]
    before = [(live, dict(live)) for live in (*attributes, *dicts)]
    try:
        yield
    finally:
        for live, saved in before:
            live.clear()
            live.update(saved)
