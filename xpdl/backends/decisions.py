"""Record of what kernels decide while they run, for `xpdl bench --explain`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

_listener: Callable[..., None] | None = None


def note(kind: str, *decision: Any) -> None:
    """Tell the listener, if there is one, about a decision.

    The kinds are ``"op"``, with its name, the function that computed it and all kernels for it, ``"algorithm"``, with the
    case of a convolution and what was chosen for it, and ``"tasks"``, with their number.
    """
    if _listener is not None:
        _listener(kind, *decision)


@contextlib.contextmanager
def listening(listener: Callable[..., None]) -> Iterator[None]:
    """Inside, `listener` is called with each decision of this process."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before
