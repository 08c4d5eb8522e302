"""Architecture of a model as JSON: layers by registered name, with their constructor arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from xpdl import layers
from xpdl.io import json_text
from xpdl.layers.base import Layer
from xpdl.layers.function_loss import FunctionLoss

K = TypeVar("K", bound=type[Layer])

#: name in a file -> class; `register_layer` adds to it
_CLASSES: dict[str, type[Layer]] = {
    name: kind
    for name in layers.__all__
    if isinstance(kind := getattr(layers, name), type) and issubclass(kind, Layer) and kind is not Layer
}

# The key of a layer in JSON, beside "args".
_LAYER = "__layer__"
# The key of a layer that stands elsewhere in the description, too: its number among those that end before.
_SAME = "__same__"
# Blocks within blocks; more is a damaged or hostile file.
_DEEPEST = 100
_PLAIN = (bool, int, float, str, type(None))
_DAMAGED = "the description of the layers is damaged"


def register_layer(kind: K) -> K:
    """Let files name a class of your own, so that `Sequential.save` and `load_model` know it.

    Parameters
    ----------
    kind : class derived from `Layer`
        Its constructor keeps each argument as an attribute of the same name, or else the class defines ``get_config()``,
        which returns the arguments as a dict. They are numbers, strings, None, layers, and lists and dicts of them; arrays
        belong in `params` and `state` and are saved beside them.

    Returns
    -------
    class
        The same, so that it serves as a decorator.

    Raises
    ------
    TypeError
        If `kind` is no class derived from `Layer`.
    ValueError
        If another class has that name.

    Notes
    -----
    A file holds the name of the class and no code: register the class before `load_model`, in each program.

    Examples
    --------
    >>> @register_layer
    ... class Scale(Layer):
    ...     def __init__(self, factor):
    ...         super().__init__()
    ...         self.factor = factor
    """
    if not (isinstance(kind, type) and issubclass(kind, Layer)):
        raise TypeError(f"register_layer: expected a class derived from Layer, got {kind!r}")
    known = _CLASSES.setdefault(kind.__name__, kind)
    # a notebook cell that is run again makes a new class of the same name
    if (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ValueError(
            f"register_layer: there is {known.__module__}.{known.__qualname__} under the name {kind.__name__!r} already; "
            "rename the class"
        )
    _CLASSES[kind.__name__] = kind
    return kind


def to_json(model: Layer, owner: str) -> str:
    """Return a model's architecture as JSON.

    Raises
    ------
    TypeError
        If a class is not registered, or an argument is not kept by the layer or is no plain value.
    """
    return json.dumps(_described(model, owner, {}))


def from_json(text: str) -> Layer:
    """Make the model of an architecture, without arrays.

    Raises
    ------
    ValueError
        If the text is damaged or names an unknown class; constructors raise what they do for wrong arguments.
    """
    model: Layer = _made(json_text.loads(text), 0, [])
    return model


def _described(layer: Layer, owner: str, numbers: dict[Layer, int]) -> dict[str, Any]:
    """Return a layer as JSON has it; `numbers` are those of the layers so far."""
    if layer in numbers:
        return {_SAME: numbers[layer]}
    name = type(layer).__name__
    if isinstance(layer, FunctionLoss):
        raise TypeError(
            f"{owner}: the loss is the function {layer.title}, which files do not know; save_params keeps the parameters "
            "alone, or derive a class from xpdl.layers.losses.LossLayer and decorate it with @xpdl.register_layer"
        )
    if _CLASSES.get(name) is not type(layer):
        raise TypeError(
            f"{owner}: {layer.name} is a {name}, a class that files do not know; decorate it with @xpdl.register_layer"
        )
    arguments = {
        key: _plain(value, f"{owner}: {layer.name}.{key}", numbers) for key, value in layer.get_config().items()
    }
    numbers[layer] = len(numbers)
    return {_LAYER: name, "args": arguments}


def _plain(value: Any, what: str, numbers: dict[Layer, int]) -> Any:
    """Return `value` as JSON has it."""
    if isinstance(value, Layer):
        return _described(value, what.partition(":")[0], numbers)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(one, what, numbers) for one in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(one, what, numbers) for key, one in value.items()}
    raise TypeError(
        f"{what} is a {type(value).__name__}; a file keeps numbers, strings, None, layers, and lists and dicts of them"
    )


def _made(value: Any, depth: int, layers: list[Layer]) -> Any:
    """Return the argument that `_plain` wrote; of a described layer, the layer, which is added to `layers`."""
    if depth > _DEEPEST:
        raise ValueError(_DAMAGED)
    if isinstance(value, list):
        return tuple(_made(one, depth + 1, layers) for one in value)
    if not isinstance(value, dict):
        return value
    if _SAME in value:
        number = value[_SAME]
        if type(number) is not int or not 0 <= number < len(layers):
            raise ValueError(_DAMAGED)
        return layers[number]
    if _LAYER not in value:
        return {key: _made(one, depth + 1, layers) for key, one in value.items()}
    name, arguments = value[_LAYER], value.get("args")
    if not (isinstance(name, str) and isinstance(arguments, dict)):
        raise ValueError(_DAMAGED)
    if name not in _CLASSES:
        raise ValueError(
            f"it holds a layer {name[:100]!r}, a class that is not known here; import it and call xpdl.register_layer first"
        )
    made = {key: _made(one, depth + 1, layers) for key, one in arguments.items()}
    layers.append(_CLASSES[name].from_config(made))
    return layers[-1]
