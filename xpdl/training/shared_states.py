"""States with which recurrent layers go on, of the rows that several ranks share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from xpdl.backends import Backend, asnumpy
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.distributed import Communicator
from xpdl.ops.shares import share_of
from xpdl.training.network_state import recurrent_states, restore_states


@contextlib.contextmanager
def whole_states(network: Any, backend: Backend, communicator: Communicator, rows: int) -> Iterator[None]:
    """Give the network of rank 0 the states of all ranks inside, in their order, for a file. All ranks enter.

    Of a rank's states, the first `rows` are those of rows that it has.
    """
    own = recurrent_states(network)
    of_ranks = communicator.allgather({name: asnumpy(state)[:rows] for name, state in own.items()})
    if communicator.is_first:
        whole = {name: _joined([states[name] for states in of_ranks]) for name in own}
        restore_states(network, whole, backend)
    try:
        yield
    finally:
        if communicator.is_first:
            restore_states(network, own, backend)


def take_share_of_states(network: Any, backend: Backend, communicator: Communicator) -> None:
    """Leave each rank the states of its rows, of those that all ranks have read; zeros where it has none."""
    states = recurrent_states(network)
    spans = {name: share_of(len(state), communicator.rank, communicator.size) for name, state in states.items()}
    own = {name: states[name][start:stop] for name, (start, stop) in spans.items() if start < stop}
    restore_states(network, own, backend)


def _joined(parts: list[Array]) -> Array:
    joined: Array = array_namespace(*parts).concat(parts)
    return joined
