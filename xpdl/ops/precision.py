"""Half precision in ops: computed with in float32, and rounded once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from xpdl.backends.namespaces import Array, is_half, rounded_to, wide_dtype, widened

P = ParamSpec("P")
R = TypeVar("R")


def in_float32(generic: Callable[P, R]) -> Callable[P, R]:
    """Compute an op in float32 where its first array is in half precision; its results are rounded to that dtype once.

    Sums in half precision stop growing after some thousand terms, squares overflow or vanish, and differences of rounded
    values are mostly rounding. Arrays of other dtypes go through as they are.
    """

    name = next(iter(inspect.signature(generic).parameters))

    @functools.wraps(generic)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        first: Any = args[0] if args else kwargs.get(name)
        if not is_half(first):
            return generic(*args, **kwargs)
        wide: Any = generic
        result: Any = wide(*map(_widened, args), **{name: _widened(value) for name, value in kwargs.items()})
        if isinstance(result, tuple):
            return tuple(one if one is None else rounded_to(first.dtype, one) for one in result)  # type: ignore[return-value]
        return rounded_to(first.dtype, result)  # type: ignore[no-any-return]

    return call


def _widened(value: Any) -> Any:
    return widened(value) if is_half(value) else value


def summed(xp: Any, x: Array, axis: int | tuple[int, ...]) -> Array:
    """The sum along `axis` in the dtype of `x`, added up in float32 where that is half precision."""
    if not is_half(x):  # nor does NumPy take a dtype in another order of bytes
        return xp.sum(x, axis=axis)
    return rounded_to(x.dtype, xp.sum(x, axis=axis, dtype=wide_dtype(x)))
