"""Constructor arguments of a layer, read from the attributes that keep them."""

from __future__ import annotations

import inspect
from typing import Any

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def kept_arguments(layer: Any) -> dict[str, Any]:
    """Return the arguments that make an equal layer without its arrays; those that are the default are skipped.

    Raises
    ------
    TypeError
        If the constructor takes an argument that the layer does not keep under its name.
    """
    kind = type(layer)
    arrays = [*layer.params.values(), *layer.state.values()]
    arguments = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind in _VARIABLE or not hasattr(layer, name):
            raise TypeError(
                f"{layer.name}: does not keep the argument {name} of {kind.__name__}; set self.{name} in __init__, or "
                "define get_config()"
            )
        value = getattr(layer, name)
        drawn = name == "init" and callable(value)  # the drawn values are in params
        if not (drawn or value is parameter.default or any(value is array for array in arrays)):
            arguments[name] = value
    return arguments
