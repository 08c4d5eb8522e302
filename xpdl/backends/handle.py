"""The handle that `xpdl.use` returns."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any


class Handle:
    """Handle that `use` returns: the backend is set already; leaving a ``with`` block restores the previous one."""

    def __init__(self, backend: Any, undo: Callable[[], None]) -> None:
        self.backend = backend
        self._undo = undo

    def __enter__(self) -> Any:
        return self.backend

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the backend alone: what to restore belongs to this process."""
        return self.backend.__reduce__()

    def __repr__(self) -> str:
        return f"<xpdl.use {self.backend.name} {self.backend.device} {self.backend.dtype}>"
