"""Rows for a model: where its parameters are, in their dtype."""

from __future__ import annotations

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array, array_namespace, dtype_name, is_array, is_floating, same_place


def at_home(x: Array, parameter: Array | None) -> bool:
    """Whether `x` is beside `parameter`, or there is none yet."""
    return parameter is None or same_place(x, parameter)


def cast(x: Array, parameter: Array | None) -> Array:
    """Floating `x` in the dtype of `parameter`; anything else as it is."""
    if parameter is None or (type(x) is type(parameter) and x.dtype == parameter.dtype):
        return x
    if not (is_array(x) and is_floating(x)):
        return x
    xp = array_namespace(x)
    return xp.astype(x, getattr(xp, dtype_name(parameter.dtype)), copy=False)


def moved(x: Array, parameter: Array | None) -> Array:
    """`x` beside `parameter`, floating values in its dtype."""
    return cast(x, parameter) if at_home(x, parameter) else Backend.of(parameter).asarray(x)


def answered(y: Array, x: Array, parameter: Array | None) -> Array:
    """`y`, computed beside `parameter`, in the library and on the device of floating `x`."""
    return y if at_home(x, parameter) or not is_floating(x) else Backend.of(x).asarray(y)
