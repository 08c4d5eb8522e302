"""Entries of a layer's dicts by path: parameters, gradients, and state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Entry = tuple[str, dict[str, Any], str]


class NamedEntries:
    """Iteration over ``params``, ``grads`` and ``state``."""

    share: Any = None  # see `Layer`; layers of layers do not call its constructor

    def named_params(self) -> Iterator[Entry]:
        """Yield (path, owning dict, key) of each parameter, in the layers' order."""
        return self.named("params")

    def named_grads(self) -> Iterator[Entry]:
        """Yield the same of each gradient."""
        return self.named("grads")

    def named_state(self) -> Iterator[Entry]:
        """Yield the same of each running statistic and counter."""
        return self.named("state")

    def named(self, kind: str) -> Iterator[Entry]:
        """(path, owning dict, key) of each entry of ``"params"``, ``"grads"`` or ``"state"``, in the layers' order."""
        raise NotImplementedError
