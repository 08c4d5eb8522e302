"""State of callbacks, as JSON and arrays for a file."""

from __future__ import annotations

import collections
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from xpdl.backends import Backend, asnumpy
from xpdl.backends.namespaces import Array, array_namespace, dtype_name, is_array, is_floating
from xpdl.io import json_text

# placeholder for an array in the JSON
_ARRAY = "__array__"


def to_file(callbacks: Iterable[Any], backend: Backend) -> tuple[str, dict[str, Array]]:
    """The states of those that have one, under their classes' names and numbers, and the host arrays that are in them.

    Raises
    ------
    TypeError
        If a ``state_dict()`` holds something else than JSON has, and arrays.
    """
    arrays: dict[str, Array] = {}
    states = {
        name: _encoded(state, f"callback.{name}", arrays, backend)
        for name, callback in named(callbacks)
        if (state := callback.state_dict())
    }
    return json.dumps(states), arrays


def from_file(
    text: str, arrays: Mapping[str, Array], callbacks: Iterable[Any], backend: Backend, source: str
) -> list[tuple[Any, Any]]:
    """Pairs of a callback and the state to load into it; arrays that lay beside the network's parameters do so again.

    `source` names the file in messages.

    Raises
    ------
    ValueError
        If a callback that has a state there is not among `callbacks`.
    TypeError, KeyError
        If `text` and `arrays` are not what `to_file` gave.
    """
    states, here = json_text.loads(text), dict(named(callbacks))
    if not isinstance(states, dict):
        raise TypeError(f"states of callbacks must be a dict, got {states!r}")
    if missing := sorted(set(states) - set(here)):
        raise ValueError(f"{source}: was written by a run with the callbacks {', '.join(missing)}; give them again")
    return [(here[name], _decoded(state, arrays, backend)) for name, state in states.items()]


def named(callbacks: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the callbacks that can be saved, named by class and number."""
    seen: collections.Counter[str] = collections.Counter()
    for callback in callbacks:
        if callable(getattr(callback, "state_dict", None)) and callable(getattr(callback, "load_state_dict", None)):
            kind = type(callback).__name__
            seen[kind] += 1
            yield f"{kind}{seen[kind]}", callback


def _encoded(value: Any, name: str, arrays: dict[str, Array], backend: Backend) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if is_array(value):
        arrays[name] = asnumpy(value)
        beside = array_namespace(value) is backend.xp
        # in the dtype of the network, whatever that is when it is read
        alike = is_floating(value) and dtype_name(value.dtype) == backend.dtype
        return {_ARRAY: name, "beside": beside, "dtype": None if alike else dtype_name(value.dtype)}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _encoded(inside, f"{name}.{key}", arrays, backend) for key, inside in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encoded(inside, f"{name}.{number}", arrays, backend) for number, inside in enumerate(value)]
    raise TypeError(
        f"Trainer: {name} of a state_dict() is a {type(value).__name__}; a checkpoint keeps numbers, strings, arrays, "
        "and lists and dicts (by str) of them"
    )


def _decoded(value: Any, arrays: Mapping[str, Array], backend: Backend) -> Any:
    if isinstance(value, list):
        return [_decoded(inside, arrays, backend) for inside in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        array = arrays[value[_ARRAY]]
        return backend.asarray(array, dtype=value["dtype"]) if value["beside"] else array
    return {key: _decoded(inside, arrays, backend) for key, inside in value.items()}
