"""Library, device and dtype of a model's parameters, and of the rows that meet them."""

from __future__ import annotations

from typing import Any

from xpdl.backends import Backend, make_backend
from xpdl.backends.dlpack import carried
from xpdl.backends.namespaces import HALVES, Array, array_namespace, dtype_name, is_array, is_floating, same_device
from xpdl.layers.composite import Composite


def move(model: Composite, backend: Any, here: Backend | None) -> None:
    """Move parameters and running statistics from `here` to a backend, or to the one of a name in the same dtype."""
    if not (hasattr(backend, "xp") and hasattr(backend, "asarray")):
        backend = make_backend(backend, dtype="float32" if here is None else here.dtype)
    # statistics stay in float32 beside parameters in half precision
    for view, dtype in ((model.params, None), (model.buffers, "float32" if backend.dtype in HALVES else None)):
        for name, value in view.items():
            view[name] = backend.asarray(value, dtype)


def at_home(x: Array, parameter: Array | None) -> bool:
    """Return whether `x` is beside `parameter`, or there is none yet."""
    return parameter is None or same_device(x, parameter)


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
    """`y`, computed beside `parameter`, in the library and on the device of floating `x`; by DLPack where it can be."""
    return y if at_home(x, parameter) or not is_floating(x) else carried(y, Backend.of(x))
