"""The states of recurrent layers in a model: who begins with zeros, and who goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from xpdl.layers.recurrent_state import reset_states, states_of_zeros


class RecurrentStates:
    """The methods of a model for the states of its recurrent layers, with ``stateful=True``."""

    tree: Callable[[], Iterator[Any]]

    def reset_state(self) -> None:
        """Begin the next pass with states of zeros, in recurrent layers that keep theirs (``stateful=True``)."""
        reset_states(self)

    def _states_of_zeros(self, needed: bool = True) -> contextlib.AbstractContextManager[None]:
        """A context in which each batch is of sequences of their own, and after which the states are what they were."""
        return states_of_zeros(self) if needed else contextlib.nullcontext()
