"""Which compiled functions ran."""

from __future__ import annotations

from typing import Any


class Watched:
    """A module of compiled functions that notes each call in `ran`, such as ``"pooling.max_pooling"``."""

    def __init__(self, module: Any, ran: list[str]) -> None:
        self.module, self._ran = module, ran

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.module, name)
        if not callable(found):
            return found

        def watched(*args: Any, **kwargs: Any) -> Any:
            self._ran.append(f"{self.module.__name__.rpartition('.')[2]}.{name}")
            return found(*args, **kwargs)

        return watched
