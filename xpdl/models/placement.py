"""Library, device and dtype of a model's parameters, and of the rows that meet them."""

from __future__ import annotations

from typing import Any

from xpdl.backends import Backend, make_backend, tables
from xpdl.backends.dlpack import carried
from xpdl.backends.namespaces import (
    HALVES,
    Array,
    array_namespace,
    dtype_name,
    is_array,
    is_floating,
    same_device,
)
from xpdl.backends.readable import is_readable
from xpdl.data.structure import arrays_of, is_structure, map_arrays, map_parts
from xpdl.layers.composite import Composite


def move(model: Composite, backend: Any, here: Backend | None) -> None:
    """Move parameters and running statistics from `here` to a backend, or to the one of a name in the same dtype."""
    if not (hasattr(backend, "xp") and hasattr(backend, "asarray")):
        backend = make_backend(backend, dtype="float32" if here is None else here.dtype)
    # statistics stay in float32 beside parameters in half precision
    for view, dtype in ((model.params, None), (model.buffers, "float32" if backend.dtype in HALVES else None)):
        for name, value in view.items():
            view[name] = backend.asarray(value, dtype)


def rows(model: Any, x: Any, owner: str) -> Any:
    """Return lists and tables as arrays, each of a tuple or dict where a model takes several inputs.

    Their whole numbers become floats, but for inputs that are ids, which are checked.
    """
    if is_structure(x) and not model.takes_tuple:
        array_namespace(x, owner=owner)  # refuses it

    def entered(key: Any, one: Any, name: str) -> Any:
        takers = model.takers_of_ids(key)
        if not takers:
            return tables.rows(one, name)
        one = tables.as_numbers(one, name) if isinstance(one, list) or tables.is_table(one) else one
        if is_array(one) and is_readable(one):  # before they are moved to where nobody looks
            for taker in takers:
                taker.check_ids(one, name)
        return one

    return map_parts(entered, x, f"{owner}: x")


def in_training(train_flg: Any, owner: str) -> bool:
    """Return the mode of a pass; `TypeError` for an array, such as a second input."""
    if train_flg is not False and is_array(train_flg):
        raise TypeError(f"{owner}: train_flg must be True or False, got an array; several inputs are one tuple")
    return bool(train_flg)


def at_home(x: Array, parameter: Array | None) -> bool:
    """Return whether `x` is beside `parameter`, or there is none yet."""
    return parameter is None or same_device(x, parameter)


def cast(x: Any, parameter: Array | None) -> Any:
    """Floating `x`, or each array of a tuple or dict, in the dtype of `parameter`; anything else as it is."""
    if parameter is not None and type(x) is type(parameter) and x.dtype == parameter.dtype:
        return x
    if is_structure(x):
        return map_arrays(lambda one: cast(one, parameter), x)
    if parameter is None or not (is_array(x) and is_floating(x)):
        return x
    xp = array_namespace(x)
    return xp.astype(x, getattr(xp, dtype_name(parameter.dtype)), copy=False)


def moved(x: Any, parameter: Array | None) -> Any:
    """`x`, or each array of a tuple or dict, beside `parameter`, floating values in its dtype."""
    if is_structure(x):
        return map_arrays(lambda one: moved(one, parameter), x)
    return cast(x, parameter) if at_home(x, parameter) else Backend.of(parameter).asarray(x)


def answered(y: Any, x: Any, parameter: Array | None) -> Any:
    """`y`, computed beside `parameter`, in the library and on the device of `x`; both may be tuples or dicts.

    The copy is made by DLPack if the libraries can. It has the dtype of the first floating array in `x`, else its own.
    """
    given = [one for _, one in arrays_of(x) if is_array(one)]
    first = next(filter(is_floating, given), given[0] if given else None)
    if first is None or at_home(first, parameter):
        return y
    home = Backend.of(first)

    def answer(one: Array | None) -> Array | None:
        if one is None:  # of an input of ids
            return None
        return carried(one, home) if is_floating(first) else home.asarray(one, dtype_name(one.dtype))

    return map_arrays(answer, y)
