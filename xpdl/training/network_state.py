"""Parameters and other state of a network by name, and copies of its arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xpdl.backends.namespaces import Array, copied, is_array, write


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
