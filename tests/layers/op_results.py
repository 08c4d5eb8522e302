"""A record of the arrays that ops return, to see that none computes a gradient that nobody asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tests.pairs import as_tuple
from xpdl.backends import dispatch
from xpdl.backends.namespaces import is_array


def record(monkeypatch: Any) -> list[tuple[int, ...]]:
    """Return the list that the shapes of all results of ops are appended to, of kernels and generic ops alike.

    Ops that an op is made of do not count.
    """
    shapes: list[tuple[int, ...]] = []
    outer: list[Any] = []

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            outer.append(function)
            try:
                results = function(*args, **options)
            finally:
                outer.pop()
            if not outer:
                shapes.extend(tuple(one.shape) for one in as_tuple(results) if is_array(one))
            return results

        return call

    class Watched:
        def __init__(self, xp: Any) -> None:
            self.kernels = kernels_for(xp)

        def __getitem__(self, name: str) -> Any:
            return tuple(map(watched, self.kernels[name]))

    kernels_for, generic = dispatch.kernels_for, dispatch._generic
    monkeypatch.setattr(dispatch, "kernels_for", Watched)
    monkeypatch.setattr(dispatch, "_generic", lambda name, xp: watched(generic(name, xp)))
    return shapes


def count_of(shapes: list[tuple[int, ...]], params: Iterable[Any]) -> int:
    """Of the recorded results, those that have the shape of a parameter."""
    wanted = {tuple(value.shape) for value in params}
    return sum(shape in wanted for shape in shapes)
