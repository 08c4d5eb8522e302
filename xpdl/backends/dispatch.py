"""Dispatch of an op to the first function that computes it for the array library of its first argument.

The generic op is the specification. Kernels override it by name for one library, have the same signature, and may return
`DECLINE` for a dtype, layout or size that they do not support; the next one answers then, and the generic op at last. For
NumPy's arrays those of ``xpdl.backends.numba``, where Numba is installed, come before those of ``xpdl.backends.numpy``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

from xpdl.backends.arrays import HostArray
from xpdl.backends.decisions import note
from xpdl.backends.namespaces import Namespace, array_namespace, library_name, numpy_namespace
from xpdl.backends.registry import DECLINE, declare, kernel, kernels_of, overridden

__all__ = ["DECLINE", "generic_only", "kernel", "kernels_for", "op", "overridden"]

P = ParamSpec("P")
R = TypeVar("R")

# Imported when an array of that library is first seen, so that `import xpdl` loads NumPy alone.
_KERNEL_MODULES = {
    "numpy": ("xpdl.backends.numba.kernels", "xpdl.backends.numpy"),
    "cupy": ("xpdl.backends.cupy",),
    "torch": ("xpdl.backends.torch",),
    "jax": ("xpdl.backends.jax",),
}
# For libraries whose arrays ask for more than a call of the generic op: modules with a function ``adapted(generic)``.
_ADAPTERS = {"cupy": "xpdl.backends.cupy.generic", "jax": "xpdl.backends.jax.generic"}

_generics: dict[str, Callable[..., Any]] = {}
_generic_depth = 0


@functools.cache
def kernels_for(xp: Namespace) -> Mapping[str, tuple[Callable[..., Any], ...]]:
    """The kernels of each op for arrays of the namespace `xp`, in the order in which they are tried."""
    library = library_name(xp)
    for module in _KERNEL_MODULES.get(library, ()):
        importlib.import_module(module)
    return kernels_of(library)


@functools.cache
def _generic(name: str, xp: Namespace) -> Callable[..., Any]:
    """The generic op, in the form that suits arrays of `xp`."""
    library = library_name(xp)
    if library not in _ADAPTERS:
        return _generics[name]
    return importlib.import_module(_ADAPTERS[library]).adapted(_generics[name])


def op(generic: Callable[P, R]) -> Callable[P, R]:
    """Make `generic` an op that kernels may override; its first argument is the array, or list of arrays, that decides."""
    name = generic.__name__
    first, parameter = next(iter(inspect.signature(generic).parameters.items()))
    takes_list = str(parameter.annotation).startswith("list[")
    _generics[name] = generic
    declare(name)

    @functools.wraps(generic)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not args and first not in kwargs:
            return generic(*args, **kwargs)  # the generic op says what is missing
        decides: Any = args[0] if args else kwargs[first]
        if takes_list:
            decides = decides[0]
        xp = numpy_namespace() if type(decides) is HostArray else array_namespace(decides, owner=name)
        kernels = () if _generic_depth else kernels_for(xp)[name]
        for function in kernels:
            result = function(*args, **kwargs)
            if result is not DECLINE:
                note("op", name, function, kernels)
                return result
        note("op", name, generic, kernels)
        return _generic(name, xp)(*args, **kwargs)

    return call


@contextlib.contextmanager
def generic_only() -> Iterator[None]:
    """Inside, every op runs its generic form: to compare, to debug, to time."""
    global _generic_depth
    _generic_depth += 1
    try:
        yield
    finally:
        _generic_depth -= 1
