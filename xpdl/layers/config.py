"""Constructor arguments of a layer, read from the attributes that keep them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def kept_arguments(layer: Any, strict: bool = True) -> dict[str, Any]:
    """Return the arguments that make an equal layer without its arrays; those that are the default are skipped.

    Without `strict`, so are those that the layer does not keep under their names.

    Raises
    ------
    TypeError
        If the constructor takes an argument that the layer does not keep under its name.
    """
    kind = type(layer)
    arrays = [owner[key] for entries in (layer.named_params(), layer.named_state()) for _, owner, key in entries]
    arguments = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind in _VARIABLE or not hasattr(layer, name):
            if not strict:
                continue
            raise TypeError(
                f"{layer.name}: does not keep the argument {name} of {kind.__name__}; set self.{name} in __init__, or "
                "define get_config()"
            )
        value = getattr(layer, name)
        drawn = name == "init" and callable(value)  # the drawn values are in params
        if not (drawn or value is parameter.default or any(value is array for array in arrays)):
            arguments[name] = value
    return arguments


#: Characters of one value, and items of a list, in a description; the rest is cut.
_LONGEST, _MOST = 80, 12


def described(thing: Any, arguments: Mapping[str, Any], items: Iterable[str] = ()) -> str:
    """``Class(item, name=value)`` in one line, without arguments that are the default; those without one come first."""
    parameters = inspect.signature(type(thing)).parameters
    default = {name: parameter.default for name, parameter in parameters.items()}
    names = sorted(arguments, key=lambda name: default.get(name) is not None)
    shown = {name: _collapsed(arguments[name]) for name in names}
    words = [f"{name}={_short(value)}" for name, value in shown.items() if not _is_default(value, default.get(name))]
    return f"{type(thing).__name__}({', '.join([*_some(list(items)), *words])})"


def _collapsed(value: Any) -> Any:
    """One number for a pair of equal ones."""
    pair = isinstance(value, tuple) and len(value) == 2 and all(isinstance(size, int) for size in value)
    return value[0] if pair and value[0] == value[1] else value


def _is_default(value: Any, default: Any) -> bool:
    if isinstance(value, (list, tuple)) and isinstance(default, (list, tuple)):
        value, default = list(value), list(default)
    return value is default or repr(value) == repr(default)


def _short(value: Any) -> str:
    text = re.sub(r"\s+", " ", re.sub(" at 0x[0-9a-fA-F]+", "", repr(value)))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _some(items: list[str]) -> list[str]:
    """The first and last of many items."""
    half = _MOST // 2
    return items if len(items) <= _MOST else [*items[:half], f"... {len(items) - 2 * half} more", *items[-half:]]
