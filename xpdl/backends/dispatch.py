"""Dispatch of an op and an array library to the function that computes it.

The generic op is the specification. A kernel is registered over it by name for one library, has the same signature, and
may return `DECLINE` for a dtype, layout or size it does not serve; the generic then answers.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from xpdl.backends.namespaces import Namespace, array_namespace, library_name

P = ParamSpec("P")
R = TypeVar("R")


class _Decline:
    def __repr__(self) -> str:
        return "DECLINE"


DECLINE: Any = _Decline()

# Imported when an array of that library is first seen, so that `import xpdl` loads NumPy alone.
_KERNEL_MODULES = {"numpy": "xpdl.backends.numpy", "cupy": "xpdl.backends.cupy"}
# For libraries whose arrays ask for more than a call of the generic op: modules with a function ``adapted(generic)``.
_ADAPTERS = {"cupy": "xpdl.backends.cupy.generic"}

_kernels: dict[tuple[str, str], Callable[..., Any]] = {}
_generics: dict[str, Callable[..., Any]] = {}
_generic_depth = 0


def kernel(library: str, name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register the decorated function as `library`'s kernel for the op `name`."""

    def register(function: Callable[P, R]) -> Callable[P, R]:
        _kernels[library, name] = function
        find.cache_clear()
        return function

    return register


@functools.cache
def find(name: str, xp: Namespace) -> Callable[..., Any]:
    """The kernel for op `name` on namespace `xp`, or the generic op when there is none."""
    library = library_name(xp)
    if library in _KERNEL_MODULES:
        importlib.import_module(_KERNEL_MODULES[library])
    return _kernels.get((library, name), _generics[name])


@functools.cache
def _generic(name: str, xp: Namespace) -> Callable[..., Any]:
    """The generic op, in the form that suits arrays of `xp`."""
    library = library_name(xp)
    if library not in _ADAPTERS:
        return _generics[name]
    adapted: Callable[..., Any] = importlib.import_module(_ADAPTERS[library]).adapted(_generics[name])
    return adapted


def op(generic: Callable[P, R]) -> Callable[P, R]:
    """Make `generic` an op that kernels may override; its first argument is the array, or list of arrays, that decides."""
    name = generic.__name__
    first, parameter = next(iter(inspect.signature(generic).parameters.items()))
    takes_list = str(parameter.annotation).startswith("list[")
    _generics[name] = generic

    @functools.wraps(generic)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not args and first not in kwargs:
            return generic(*args, **kwargs)  # which says what is missing
        decides: Any = args[0] if args else kwargs[first]
        xp = array_namespace(decides[0] if takes_list else decides, owner=name)
        found = generic if _generic_depth else find(name, xp)
        if found is not generic:
            result = found(*args, **kwargs)
            if result is not DECLINE:
                return result
        return _generic(name, xp)(*args, **kwargs)  # type: ignore[no-any-return]

    return call


def overridden() -> list[tuple[str, str]]:
    """(library, op) of every kernel registered so far."""
    return sorted(_kernels)


@contextlib.contextmanager
def generic_only() -> Iterator[None]:
    """Inside, every op runs its generic form: to compare, to debug, to time."""
    global _generic_depth
    _generic_depth += 1
    try:
        yield
    finally:
        _generic_depth -= 1
