"""State dicts: the arrays of a model by name, and loading them, all or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from xpdl.backends import Backend
from xpdl.backends.conversion import to_numpy
from xpdl.backends.namespaces import Array, copied, dtype_name, is_array, is_floating
from xpdl.errors import ShapeError
from xpdl.layers.composite import Composite


class Differences(NamedTuple):
    """Names in which a state and a model differ: those that the state lacks, and those that the model lacks."""

    missing: list[str]
    unexpected: list[str]


def state_of(model: Composite) -> dict[str, Array]:
    """The arrays of a model by name, not copied: parameters, then running statistics."""
    if not model.built:
        raise ShapeError(f"{model.name}: has no parameters yet; call build(input_shape) or train it first")
    return {**model.params, **model.buffers}


def fill(
    model: Composite, state: Mapping[str, Any], source: str, *, strict: bool = True, optional: Iterable[str] = ()
) -> Differences:
    """Copy the arrays of `state` into `model`; `source` names them in messages, `optional` what may be missing.

    Everything is checked and converted before anything is changed.
    """
    own = state_of(model)
    if not isinstance(state, Mapping):
        raise TypeError(f"{source}: expected a dict of arrays, got {type(state).__name__}")
    missing = [name for name in own if name not in state and name not in set(optional)]
    unexpected = [name for name in state if name not in own]
    problems = [f"missing {name} {tuple(own[name].shape)}" for name in missing] if strict else []
    problems += [f"unexpected {name}{_described(state[name])}" for name in unexpected] if strict else []
    converted = {}
    for name, value in state.items():
        if name not in own:
            continue
        if problem := _problem(value, own[name]):
            problems.append(f"{name} {problem}")
        elif not problems:
            converted[name] = _converted(value, own[name])
            if _overflowed(value, converted[name]):
                problems.append(f"{name} has values beyond the range of {dtype_name(own[name].dtype)}")
    if problems:
        fits_none = not own.keys() & state.keys() and any(str(name).endswith(".weight") for name in state)
        cure = (
            '; xpdl.load_pytorch(model, state, names="index") takes those of a Sequential of PyTorch'
            if fits_none
            else ""
        )
        raise ValueError(f"{source}: does not fit this {type(model).__name__}: {'; '.join(problems)}{cure}")
    params, buffers = model.params, model.buffers
    for name, value in converted.items():
        view = params if name in params else buffers
        view[name] = value
    return Differences(missing, list(map(str, unexpected)))


def _described(value: Any) -> str:
    return f" {tuple(value.shape)}" if is_array(value) else ""


def _problem(value: Any, own: Array) -> str:
    """Describe why `value` cannot replace `own`; empty if it can."""
    if not is_array(value):
        return f"is a {type(value).__name__}, expected an array"
    if tuple(value.shape) != tuple(own.shape):
        return f"has shape {tuple(value.shape)}, expected {tuple(own.shape)}"
    if not is_floating(value):
        return f"has dtype {dtype_name(value.dtype)}, expected floats"
    return ""


def _converted(value: Any, own: Array) -> Array:
    """A copy of `value` in the library, on the device and in the dtype of `own`."""
    with np.errstate(over="ignore"):  # it is looked for afterwards
        made = Backend.of(own).asarray(value)
    return copied(made)


def _overflowed(value: Any, made: Array) -> bool:
    if dtype_name(value.dtype) == dtype_name(made.dtype):
        return False
    return bool((np.isfinite(to_numpy(value)) & ~np.isfinite(to_numpy(made))).any())
