"""Kernels by group and op, in the order in which dispatch tries them."""

from __future__ import annotations

import collections
import contextlib
import difflib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

__all__ = ["DECLINE", "call", "kernel", "kernels_of", "overridden", "withdraw", "without"]

P = ParamSpec("P")
R = TypeVar("R")


class _Decline:
    def __repr__(self) -> str:
        return "DECLINE"


DECLINE: Any = _Decline()

# Array library -> its groups of kernels, tried in this order; of other libraries the one group has the library's name.
GROUPS: dict[str, tuple[str, ...]] = {"numpy": ("numba", "numpy")}

# Names of all ops, which `xpdl.backends.dispatch.op` declares.
_ops: set[str] = set()
_kernels: dict[tuple[str, str], Callable[..., Any]] = {}
# library -> op -> its kernels in order
_lists: dict[str, dict[str, tuple[Callable[..., Any], ...]]] = collections.defaultdict(
    functools.partial(collections.defaultdict, tuple)
)


def kernel(group: str, op: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register the decorated function as the kernel of `group` for `op`, in the place of one registered before.

    A group is an array library such as ``"cupy"``; NumPy's arrays have two, ``"numba"`` and then ``"numpy"``.

    Raises
    ------
    ValueError
        If there is no op of that name, which nothing would ever call the kernel for.
    """
    if op not in _ops:
        near = difflib.get_close_matches(str(op), _ops, n=3)
        similar = f"the nearest names are {', '.join(near)}" if near else "define it with @op before its kernels"
        raise ValueError(f"kernel: there is no op named {op!r}; {similar}")

    def register(function: Callable[P, R]) -> Callable[P, R]:
        _kernels[group, op] = function
        _list(group, op)
        return function

    return register


def declare(op: str) -> None:
    """Let kernels be registered for an op of that name."""
    _ops.add(op)


def withdraw(group: str, op: str) -> None:
    """Forget the kernel of `group` for `op`, if there is one."""
    _kernels.pop((group, op), None)
    _list(group, op)


@contextlib.contextmanager
def without(group: str) -> Iterator[None]:
    """Disable the kernels of `group` inside: to compare ``"numba"`` with ``"numpy"``, for example."""
    taken = {key: function for key, function in _kernels.items() if key[0] == group}
    for key in taken:
        withdraw(*key)
    try:
        yield
    finally:
        for key, function in taken.items():
            kernel(*key)(function)


def kernels_of(library: str) -> Mapping[str, tuple[Callable[..., Any], ...]]:
    """The kernels of each op for arrays of `library`, in order; kernels registered later appear in it."""
    return _lists[library]


def call(library: str, op: str, *args: Any, **kwargs: Any) -> Any:
    """Compute `op` by the first kernel that does not decline; `DECLINE` where all do."""
    for function in _lists[library][op]:
        result = function(*args, **kwargs)
        if result is not DECLINE:
            return result
    return DECLINE


def group_of(function: Callable[..., Any]) -> str | None:
    """Return the group that a kernel is registered in, or None for a generic op."""
    return next((group for (group, _), registered in _kernels.items() if registered is function), None)


def overridden() -> list[tuple[str, str]]:
    """(group, op) of every kernel registered so far."""
    return sorted(_kernels)


def _list(group: str, op: str) -> None:
    library = next((library for library, groups in GROUPS.items() if group in groups), group)
    groups = GROUPS.get(library, (group,))
    _lists[library][op] = tuple(_kernels[name, op] for name in groups if (name, op) in _kernels)
