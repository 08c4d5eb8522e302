"""Generic ops on CuPy's arrays, where no kernel serves: on their device, and in bfloat16 too."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from xpdl.backends.namespaces import array_namespace, is_array, is_floating, on_device_of

# Ops of other packages, those of optimizers and of loss scaling, choose dtypes themselves.
_OPS = "xpdl.ops."
# So do these: some of their results are float32 for half precision.
_WIDE_RESULTS = (
    *("xpdl.ops.losses", "xpdl.ops.regression_losses", "xpdl.ops.hinge"),
    *("xpdl.ops.normalization", "xpdl.ops.row_normalization"),
)


def adapted(generic: Callable[..., Any]) -> Callable[..., Any]:
    """`generic`, computed on the device of its arrays, and in float32 where all floating ones are bfloat16.

    In expressions with Python numbers, CuPy widens bfloat16 by itself and would return float32.
    """
    narrows = generic.__module__.startswith(_OPS) and generic.__module__ not in _WIDE_RESULTS

    @functools.wraps(generic)
    def run(*args: Any, **kwargs: Any) -> Any:
        arrays = list(_arrays((args, kwargs)))
        with on_device_of(arrays[0]):
            if not (narrows and {a.dtype.name for a in arrays if is_floating(a)} == {"bfloat16"}):
                return generic(*args, **kwargs)
            wide = generic(*_cast(args, "bfloat16", "float32"), **_cast(kwargs, "bfloat16", "float32"))
            return _cast(wide, "float32", "bfloat16")

    return run


def _arrays(value: Any) -> Iterator[Any]:
    """All arrays in nested tuples, lists and dicts."""
    if isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _arrays(item)
    elif is_array(value):
        yield value


def _cast(value: Any, old: str, new: str) -> Any:
    """`value`, arrays or nested tuples, lists and dicts of them, with arrays of dtype `old` in dtype `new`."""
    if isinstance(value, dict):
        return {key: _cast(item, old, new) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_cast(item, old, new) for item in value)
    if is_array(value) and value.dtype.name == old:
        xp = array_namespace(value)
        return xp.astype(value, getattr(xp, new))
    return value
