"""Half precision served by kernels of float32."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from xpdl.backends.namespaces import is_half, rounded_to, widened
from xpdl.backends.registry import DECLINE

P = ParamSpec("P")
R = TypeVar("R")

#: results that stay in float32
WIDE = None


def serves_half(like: Mapping[int, int | None] = MappingProxyType({})) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a kernel of float32 serve half precision: it gets arrays in float32, and its results are rounded once.

    That is how the generic ops compute as well, and in what their results are close to those of float32.

    Parameters
    ----------
    like : mapping of int to int or None
        For the results by their place, the argument whose dtype they are rounded to: by default the first, and with None
        they stay in float32, as statistics and losses do.
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        first = next(iter(signature.parameters))

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            decides: Any = args[0] if args else kwargs[first]
            if not is_half(decides):
                return function(*args, **kwargs)
            wide: Any = function
            results = wide(*map(_widened, args), **{name: _widened(value) for name, value in kwargs.items()})
            if results is DECLINE:
                return results
            given = signature.bind(*args, **kwargs).args
            if not isinstance(results, tuple):
                return _rounded(results, given, like.get(0, 0))
            return tuple(_rounded(one, given, like.get(place, 0)) for place, one in enumerate(results))  # type: ignore[return-value]

        return call

    return decorated


def _widened(value: Any) -> Any:
    return widened(value) if is_half(value) else value


def _rounded(result: Any, args: tuple[Any, ...], place: int | None) -> Any:
    """`result` in the dtype of an argument; what is no float32, such as the taps of pooling or nothing, as it is."""
    if place is None or result is None or not str(result.dtype).endswith("float32"):
        return result
    return rounded_to(args[place].dtype, result)
