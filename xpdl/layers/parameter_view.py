"""One mapping over the parameters of many layers."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from xpdl.backends.graphs import leaf
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.errors import ShapeError


class ParameterView(MutableMapping[str, Array]):
    """Names -> arrays that layers own: reading and writing go to the layers' own dicts, so the two cannot drift apart.

    Entries can be replaced by arrays of the same shape, and neither added nor deleted.
    """

    def __init__(self, slots: dict[str, tuple[dict[str, Array], str]]) -> None:
        self.slots = slots

    def __getitem__(self, name: str) -> Array:
        owner, key = self.slots[name]
        return owner[key]

    def __setitem__(self, name: str, value: Array) -> None:
        if name not in self.slots:
            raise KeyError(f"no parameter {name!r}; there are {', '.join(self.slots)}")
        owner, key = self.slots[name]
        array_namespace(value, owner=f"parameter {name!r}")
        if tuple(value.shape) != tuple(owner[key].shape):
            raise ShapeError(f"parameter {name!r} has shape {tuple(owner[key].shape)}, got {tuple(value.shape)}")
        owner[key] = leaf(value)

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"parameter {name!r} belongs to a layer and cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(self.slots)

    def __len__(self) -> int:
        return len(self.slots)

    def __repr__(self) -> str:
        return f"ParameterView({ {name: tuple(value.shape) for name, value in self.items()} })"
