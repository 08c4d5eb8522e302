"""Parameters and other state of a network by name, and copies of its arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array, copied, is_array, write
from xpdl.layers.recurrent_state import stateful_layers


def named_state(network: Any) -> Iterator[tuple[str, Any, str]]:
    """(name, dict, key) of everything a network changes in training; of other libraries' networks, the parameters."""
    if hasattr(network, "named_params"):
        yield from network.named_params()
        yield from network.named_state()
    else:
        yield from ((name, network.params, name) for name in network.params)


def named_arrays(network: Any) -> Iterator[tuple[str, Any, str]]:
    """As `named_state`, without counters: parameters and running statistics."""
    return ((name, owner, key) for name, owner, key in named_state(network) if is_array(owner[key]))


def copies(network: Any) -> dict[str, Array]:
    """Name -> a copy of each array, beside it."""
    return {name: copied(owner[key]) for name, owner, key in named_arrays(network)}


def put_back(network: Any, arrays: dict[str, Array]) -> None:
    """Give the network's arrays the values of others, in place where the library can: a shared dict stays shared."""
    for name, owner, key in named_arrays(network):
        owner[key] = write(owner[key], arrays[name])


def recurrent_states(network: Any) -> dict[str, Array]:
    """The states with which recurrent layers go on, by the layer's number and their name."""
    found = {
        f"{k}.{name}": getattr(one, name) for k, one in enumerate(stateful_layers(network)) for name in one.state_names
    }
    return {name: state for name, state in found.items() if state is not None}


def restore_states(network: Any, states: Mapping[str, Any], backend: Backend) -> None:
    """Let recurrent layers go on with what `recurrent_states` gave, and with zeros where that has none."""
    for k, one in enumerate(stateful_layers(network)):
        for name in one.state_names:
            state = states.get(f"{k}.{name}")
            setattr(one, name, None if state is None else backend.asarray(state, state.dtype.name))
