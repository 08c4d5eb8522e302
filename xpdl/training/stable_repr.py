"""Constructor arguments as text that is the same in every process."""

from __future__ import annotations

import inspect
import re
from typing import Any

from xpdl.backends.namespaces import is_array
from xpdl.layers.base import Layer


def arguments(thing: Any) -> dict[str, str]:
    """Name -> value, as ``repr`` shows it, of those arguments of its constructor that `thing` keeps under their names.

    Arrays and layers are skipped.
    """
    values = {name: getattr(thing, name, inspect.Parameter.empty) for name in _names(type(thing))}
    return {
        name: words(value)
        for name, value in values.items()
        # an attribute with the name of an argument may be a method
        if not (
            value is inspect.Parameter.empty or is_array(value) or isinstance(value, Layer) or inspect.ismethod(value)
        )
    }


def words(value: Any) -> str:
    """``repr(value)`` without the addresses of functions, which are others in each process."""
    return re.sub(" at 0x[0-9a-fA-F]+", "", repr(value))


def described(thing: Any) -> str:
    """``Class(name=value)``."""
    return f"{type(thing).__name__}({', '.join(f'{name}={value}' for name, value in arguments(thing).items())})"


def _names(kind: type) -> list[str]:
    try:
        parameters = inspect.signature(kind).parameters.values()
    except ValueError:  # some classes written in C have no signature
        return []
    return [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
