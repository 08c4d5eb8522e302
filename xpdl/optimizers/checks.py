"""Checks of an optimizer before it changes anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpdl.backends.namespaces import (
    Array,
    array_namespace,
    copied,
    dtype_name,
    floats_alike,
    is_array,
    same_device,
    wide_dtype,
    widened,
)
from xpdl.backends.subclasses import refuse_other_arithmetic
from xpdl.errors import DTypeError, ShapeError
from xpdl.ops.checks import require_floating
from xpdl.optimizers.hyper_parameter import HyperParameter

State = dict[str, dict[str, Array]]


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def are_numbers(params: Mapping[str, Any]) -> bool:
    """Return whether all `params` are Python numbers, or NumPy's that are such."""
    return len(params) > 0 and all(map(is_number, params.values()))


def require_mapping(mapping: Any, name: str, owner: str) -> None:
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{owner}.update: {name} must be a dict of arrays by name, got {type(mapping).__name__}")


def check_update(params: Mapping[str, Array], grads: Mapping[str, Array], state: State, owner: str) -> None:
    """Require for each parameter a gradient, and state, of its library, device and shape."""
    first = next(iter(params.values()), None)
    for name, p in params.items():
        g = grads.get(name)
        kept = [arrays[name] for arrays in state.values() if name in arrays]
        if floats_alike(p, g, *kept) and same_device(first, p):
            continue
        where = f"{owner}: parameter {name!r}"
        if g is None:
            raise KeyError(f"{where} has no gradient; there are gradients of {', '.join(map(str, grads)) or 'none'}")
        for what, array in (("the parameter", p), ("its gradient", g)):
            refuse_other_arithmetic([array], f"{where}, {what}: ")
            if not is_array(array):
                raise TypeError(f"{where}: {what} must be an array, got {type(array).__name__}")
        array_namespace(first, p, g, *kept, owner=where)
        require_floating(p, where)
        if g.dtype != p.dtype:
            require_floating(g, f"{where}, its gradient")
        if tuple(g.shape) != tuple(p.shape):
            raise ShapeError(f"{where} has shape {tuple(p.shape)}, but its gradient has {tuple(g.shape)}")
        for array in kept:
            if tuple(array.shape) != tuple(p.shape):
                raise ShapeError(
                    f"{where} has shape {tuple(p.shape)}, but had {tuple(array.shape)} in earlier updates; "
                    "make a new optimizer for another network"
                )
            if dtype_name(wide_dtype(array)) != dtype_name(wide_dtype(p)):  # in either byte order
                raise DTypeError(
                    f"{where} is {dtype_name(p.dtype)}, but was {dtype_name(array.dtype)} in earlier updates; "
                    "make a new optimizer, or load its state with arrays of the new dtype"
                )


def checked_state(
    state: Any, optimizer: str, hyper_parameters: Mapping[str, HyperParameter], kinds: tuple[str, ...]
) -> dict[str, Any]:
    """Return the attributes that a loaded state sets: ``iter``, the hyper-parameters, copies of the arrays of `kinds`."""
    owner = f"{optimizer}.load_state_dict"
    expected = {"optimizer", "iter", *hyper_parameters, *kinds}
    if not isinstance(state, Mapping) or set(state) != expected:
        came = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
        raise ValueError(f"{owner}: expected a dict with the keys {sorted(expected)}, got {came}")
    if state["optimizer"] != optimizer:
        raise ValueError(f"{owner}: this is the state of {state['optimizer']!r}; load it into such an optimizer")
    count = state["iter"]
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ValueError(f"{owner}: iter must be an int, at least 0, got {count!r}")
    checked: dict[str, Any] = {"iter": count}
    checked.update((name, hyper.checked(state[name], owner)) for name, hyper in hyper_parameters.items())
    arrays_of = {kind: state[kind] for kind in kinds}
    _check_arrays(arrays_of, owner)
    checked.update(
        (kind, {name: copied(widened(a)) for name, a in arrays.items()}) for kind, arrays in arrays_of.items()
    )
    return checked


def _check_arrays(arrays_of: dict[str, Any], owner: str) -> None:
    """Require one array of each kind for each parameter, all alike."""
    first: Mapping[str, Any] = next(iter(arrays_of.values()), {})
    for kind, arrays in arrays_of.items():
        if not isinstance(arrays, Mapping) or set(arrays) != set(first):
            raise ValueError(f"{owner}: {kind} must be a dict of one array for each parameter, as the others are")
        for name, a in arrays.items():
            where = f"{owner}: {kind}[{name!r}]"
            if not is_array(a):
                raise ValueError(f"{where} must be an array, got {type(a).__name__}")
            array_namespace(*first.values(), a, owner=where)
            require_floating(a, where)
            like = first[name]
            if tuple(a.shape) != tuple(like.shape) or dtype_name(a.dtype) != dtype_name(like.dtype):
                raise ShapeError(
                    f"{where} must be {dtype_name(like.dtype)} {tuple(like.shape)}, "
                    f"got {dtype_name(a.dtype)} {tuple(a.shape)}"
                )
