"""Generic ops on JAX's arrays, each compiled as one by `jax.jit`.

Outside of a function that JAX traces, every operator of a generic op would be a launch of its own over the whole array: max
pooling of (100, 16, 28, 28) backward takes 40 ms on two cores, and compiled 1.4 ms. `jax.lax.select_and_scatter` would take
8.4 ms for the same.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax

from xpdl.backends.graphs import is_traced

#: numbers that differ from call to call, and are arguments of the compiled op; others are constants in it
_CHANGING = frozenset({"lr", "keep", "updates", "dout", "first"})
#: ops that call a function, which decides by itself what is compiled
_NOT_COMPILED = frozenset({"fused_update"})
# an op of another package may read values
_OWN = "xpdl."
#: values of a window, each an operation of the generic op, beyond which compiling takes longer than many calls
MOST_TAPS = 64
_CONSTANTS = (int, float, str, tuple, type(None))


def adapted(generic: Callable[..., Any]) -> Callable[..., Any]:
    """Return `generic` compiled, anew for every combination of constants; inside of a traced function, as it is.

    What is neither an array of JAX nor a constant, such as an array of another library, goes to `generic`, which says what
    is wrong with it.
    """
    if generic.__name__ in _NOT_COMPILED or not generic.__module__.startswith(_OWN):
        return generic

    parameters = list(inspect.signature(generic).parameters)
    has_windows = not _WINDOW.isdisjoint(parameters)

    @functools.lru_cache(maxsize=1024, typed=True)
    def compiled(names: tuple[str, ...], *constants: Any) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            given = iter(arguments)
            values = [next(given) if constant is _ARGUMENT else constant for constant in constants]
            # a decorator of the op may look at the first argument by its place
            first = len(values) - len(names)
            return generic(*values[:first], **dict(zip(names, values[first:], strict=True)))

        return jax.jit(run)

    @functools.wraps(generic)
    def call(*args: Any, **kwargs: Any) -> Any:
        if has_windows and _taps(dict(zip(parameters, args, strict=False)) | kwargs) > MOST_TAPS:
            return generic(*args, **kwargs)
        arguments, constants = [], []
        for name, value in (*zip(parameters, args, strict=False), *kwargs.items()):
            if _is_argument(name, value):
                arguments.append(value)
                constants.append(_ARGUMENT)
            elif isinstance(value, _CONSTANTS):
                constants.append(value)
            else:
                return generic(*args, **kwargs)
        if any(map(is_traced, itertools.chain(*[a if isinstance(a, list) else [a] for a in arguments]))):
            return generic(*args, **kwargs)
        return compiled(tuple(kwargs), *constants)(*arguments)

    return call


_ARGUMENT = object()
_WINDOW = frozenset({"size", "filter_h", "filter_w"})


def _taps(given: dict[str, Any]) -> int:
    """Return how many values a window has."""
    sizes = [given[name] for name in _WINDOW if name in given]
    flat = [one for size in sizes for one in (size if isinstance(size, (tuple, list)) else (size,))]
    return math.prod(one for one in flat if isinstance(one, int))


def _is_argument(name: str, value: Any) -> bool:
    """Return whether a value is an argument of the compiled op: arrays, lists of them, and numbers that change."""
    if isinstance(value, list):
        return all([isinstance(item, jax.Array) for item in value])
    return isinstance(value, jax.Array) or (name in _CHANGING and isinstance(value, (int, float)))
