"""One mapping over the parameters of many layers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, MutableMapping

from xpdl.backends.graphs import leaf
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.errors import ShapeError


class ParameterView(MutableMapping[str, Array]):
    """Names -> arrays that layers own: reading and writing go to the layers' own dicts, so the two cannot drift apart.

    Entries can be replaced by arrays of the same shape, and neither added nor deleted.
    """

    def __init__(self, entries: dict[str, tuple[dict[str, Array], str]], frozen: Collection[str] = ()) -> None:
        self.entries, self.frozen = entries, frozen

    @property
    def trained(self) -> ParameterView:
        """The view without what is `frozen`: names of parameters that no optimizer changes."""
        if not self.frozen:
            return self
        return ParameterView({name: entry for name, entry in self.entries.items() if name not in self.frozen})

    def __getitem__(self, name: str) -> Array:
        owner, key = self.entries[name]
        return owner[key]

    def __setitem__(self, name: str, value: Array) -> None:
        if name not in self.entries:
            raise KeyError(f"no parameter {name!r}; there are {', '.join(self.entries)}")
        owner, key = self.entries[name]
        array_namespace(value, owner=f"parameter {name!r}")
        if tuple(value.shape) != tuple(owner[key].shape):
            raise ShapeError(f"parameter {name!r} has shape {tuple(owner[key].shape)}, got {tuple(value.shape)}")
        owner[key] = leaf(value)

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"parameter {name!r} belongs to a layer and cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"ParameterView({ {name: tuple(value.shape) for name, value in self.items()} })"


class UnbuiltView(ParameterView):
    """The view of a network that lacks parameters until its first pass: looked up anew at each use.

    So ``optimizer.update(net.params, net.gradient(x, t))``, where `params` is evaluated first, changes all of them.
    """

    def __init__(self, view: Callable[[], ParameterView]) -> None:
        self.view = view

    @property
    def entries(self) -> dict[str, tuple[dict[str, Array], str]]:  # type: ignore[override]
        return self.view().entries

    @property
    def frozen(self) -> Collection[str]:  # type: ignore[override]
        return self.view().frozen


class OwnAndInside(ParameterView):
    """A layer's own entries, which can be added and deleted, and those of the layers inside of it."""

    def __init__(self, own: dict[str, Array], inside: dict[str, tuple[dict[str, Array], str]]) -> None:
        super().__init__({**{key: (own, key) for key in own}, **inside})
        self.own = own

    def __setitem__(self, name: str, value: Array) -> None:
        if name in self.entries and self.entries[name][0] is not self.own:
            super().__setitem__(name, value)
        else:
            self.own[name] = leaf(value)
            self.entries[name] = self.own, name

    def __delitem__(self, name: str) -> None:
        if name in self.entries and self.entries[name][0] is not self.own:
            super().__delitem__(name)
        del self.own[name], self.entries[name]
