"""Arguments of constructors in the order of other libraries: one error that says how the layer is made here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

Arguments = tuple[Any, ...]
Constructor = Callable[..., Any]

_IN = "the size of the input is taken from the first one"
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _ints(args: Arguments, count: int = 1) -> bool:
    """Return whether there are `count` arguments, and the first ones are ints."""
    return len(args) >= count and all(isinstance(one, int) and not isinstance(one, bool) for one in args[:count])


def _affine(args: Arguments) -> str | None:
    if not _ints(args):
        return None
    return f"{_IN}, and the size of the output has a name: {{}}(units={args[1] if _ints(args, 2) else args[0]})"


def _filters(args: Arguments) -> str | None:
    if not _ints(args):
        return None
    filters, *rest = args[1:] if _ints(args, 2) and len(args) > 2 else args
    options = [f"{name}={value!r}" for name, value in zip(("size", "stride", "pad"), rest, strict=False)]
    return f"{_IN}, and sizes have names: {{}}({', '.join([f'filters={filters}', *(options or ['size=3'])])})"


def _units(args: Arguments) -> str | None:
    return f"{_IN}, and a layer is one: {{}}({args[1]})" if _ints(args, 2) else None


def _features(args: Arguments) -> str | None:
    is_shape = args and isinstance(args[0], (tuple, list))
    return f"{_IN}: {{}}()" if is_shape or _ints(args) else None


def _channels(args: Arguments) -> str | None:
    return f"{_IN}: {{}}(); an initial value is {{}}(gamma={args[0]})" if _ints(args) and args[0] > 1 else None


def _groups(args: Arguments) -> str | None:
    return f"{_IN}: {{}}({args[0]})" if _ints(args, 2) else None


def _heads(args: Arguments) -> str | None:
    return f"{_IN}: {{}}({args[1]})" if _ints(args, 2) else None


def _length(args: Arguments) -> str | None:
    return f"{_IN}: {{}}({args[0]})" if _ints(args, 2) else None


def _one_tuple(args: Arguments) -> str | None:
    return f"the axes are one tuple: {{}}({args})" if _ints(args, 2) else None


def _flatten(args: Arguments) -> str | None:
    return "all axes after the first are made one: {}()" if args else None


#: class with the constructor -> function of the arguments by position, that says how the layer is made, or None
_CURES: Mapping[str, Callable[[Arguments], str | None]] = {
    "Affine": _affine,
    "FilterLayer": _filters,
    "ConvolutionTranspose": _filters,
    "Recurrent": _units,
    "LSTM": _units,
    "LayerNormalization": _features,
    "RMSNormalization": _features,
    "GroupNormalization": _groups,
    "BatchNormalization": _channels,
    "MultiHeadAttention": _heads,
    "LearnedPositions": _length,
    "Reshape": _one_tuple,
    "Permute": _one_tuple,
    "Flatten": _flatten,
}


def own_order(function: Constructor) -> Constructor:
    """Decorate the constructor of a layer, so that it refuses arguments in the order of other libraries.

    Raises
    ------
    TypeError
        By the constructor: for arguments by position as PyTorch or Keras has them, or more than it takes.
    """
    is_own = function.__module__.startswith("xpdl.")
    cure_of = _CURES.get(function.__qualname__.rpartition(".")[0]) if is_own else None
    parameters = [one for name, one in inspect.signature(function).parameters.items() if name != "self"]
    names = [one.name for one in parameters if one.kind in _BY_POSITION]
    takes_any = any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters)
    if takes_any and cure_of is None:
        return function

    @functools.wraps(function)
    def wrapper(self: Any, *args: Any, **options: Any) -> Any:
        owner = type(self).__name__
        cure = None if cure_of is None else cure_of(args)
        if cure is not None:
            made = ", ".join(map(repr, args))
            raise TypeError(f"{owner}: got {owner}({made}) by position; {cure.replace('{}', owner)}")
        if len(args) > len(names) and not takes_any:
            first = f"those of {', '.join(names)}" if names else "none"
            raise TypeError(f"{owner}: got {len(args)} arguments by position, and takes {first}; name the others")
        return function(self, *args, **options)

    return wrapper
