"""Copies of what a network has learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xpdl.backends.namespaces import Array, copied, is_array, write


def slots(network: Any) -> Iterator[tuple[str, Any, str]]:
    """(name, dict, key) of each parameter and running statistic; of other libraries' networks, the parameters."""
    if hasattr(network, "slots"):
        for kind in ("params", "state"):
            yield from ((name, owner, key) for name, owner, key in network.slots(kind) if is_array(owner[key]))
    else:
        yield from ((name, network.params, name) for name in network.params)


def copies(network: Any) -> dict[str, Array]:
    """Name -> a copy of each array, beside it."""
    return {name: copied(owner[key]) for name, owner, key in slots(network)}


def put_back(network: Any, arrays: dict[str, Array]) -> None:
    """Give the network's arrays the values of others, in place where the library can: a shared dict stays shared."""
    for name, owner, key in slots(network):
        owner[key] = write(owner[key], arrays[name])
