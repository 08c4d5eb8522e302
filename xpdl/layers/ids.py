"""Layers whose input is integers, and what reaches the first of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class TakesIds:
    """Layer that may take integers, or begin with a layer that does."""

    def children(self) -> Iterator[tuple[str, Any]]:
        """(name, layer) of each layer directly inside."""
        return iter(())

    def takers_of_ids(self, key: Any) -> list[Any]:
        """Return the layers, as `Embedding`, that the input reaches as ids, also where such a layer is the first inside.

        Each has a method ``check_ids(x, owner)``. Of several inputs, `key` is the name or the place of one, None all.
        """
        first = next(iter(self.children()), None)
        return [] if first is None or key not in (None, 0) else list(first[1].takers_of_ids(None))

    @property
    def takes_ids(self) -> bool:
        """Return whether the input, or one of several, is integers."""
        return bool(self.takers_of_ids(None))
