"""States that recurrent layers keep from one pass to the next: begin anew, or leave them alone for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from xpdl.layers.recurrent import Recurrent


def stateful_layers(layer: Any) -> list[Recurrent]:
    """Return the layers, of those inside, whose sequences go on with the state of the pass before."""
    tree = layer.tree() if hasattr(layer, "tree") else ()
    return [one for one in tree if isinstance(one, Recurrent) and one.stateful]


def reset_states(layer: Any) -> None:
    """Begin the next pass with states of zeros."""
    for one in stateful_layers(layer):
        one.reset_state()


@contextlib.contextmanager
def states_of_zeros(layer: Any) -> Iterator[None]:
    """Inside, every pass begins with states of zeros; afterwards, layers go on from where they were."""
    layers = stateful_layers(layer)
    kept = [{name: getattr(one, name) for name in one.state_names} for one in layers]
    for one in layers:
        one.reset_state()
        one.stateful = False
    try:
        yield
    finally:
        for one, states in zip(layers, kept, strict=True):
            one.stateful = True
            vars(one).update(states)


@contextlib.contextmanager
def states_kept(layer: Any) -> Iterator[None]:
    """Inside, recurrent layers go on from pass to pass; those that are not stateful begin with zeros before and after."""
    layers = [one for one in layer.tree() if isinstance(one, Recurrent) and not one.stateful]
    for one in layers:
        one.reset_state()
        one.stateful = True
    try:
        yield
    finally:
        for one in layers:
            one.stateful = False
            one.reset_state()
