"""Several arrays as one input or target: tuples and dicts of arrays that have the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from xpdl.backends.namespaces import Array, array_namespace, is_array
from xpdl.errors import ShapeError


def is_structure(value: Any) -> bool:
    """Return whether `value` is a tuple or mapping, of arrays or of further ones."""
    return isinstance(value, (tuple, Mapping))


def map_arrays(function: Callable[[Any], Any], value: Any) -> Any:
    """Call `function` with each array of `value`, and return the results in a tuple or dict of the same form."""
    if isinstance(value, tuple):
        return tuple(map_arrays(function, one) for one in value)
    if isinstance(value, Mapping):
        return {key: map_arrays(function, one) for key, one in value.items()}
    return function(value)


def map_parts(function: Callable[[Any, Any, str], Any], value: Any, name: str) -> Any:
    """Call ``function(key, part, name)`` with each part of a tuple or dict, or with ``(None, value, name)``.

    The results come in a tuple or dict of the same form; a name is that of `arrays_of`.
    """
    if isinstance(value, tuple):
        return tuple(function(place, one, f"{name}[{place}]") for place, one in enumerate(value))
    if isinstance(value, Mapping):
        return {key: function(key, one, f"{name}[{key!r}]") for key, one in value.items()}
    return function(None, value, name)


def arrays_of(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (name, array) for each array of `value`: ``x``, or ``x[0]`` and ``x['image']``."""
    if not is_structure(value):
        yield name, value
        return
    for key, one in value.items() if isinstance(value, Mapping) else enumerate(value):
        yield from arrays_of(one, f"{name}[{key!r}]")


def first_array(value: Any) -> Array:
    """Return the first array of `value`."""
    return next(array for _, array in arrays_of(value))


def rows_in(value: Any) -> int:
    """Return the number of rows, which all arrays of `value` have."""
    return int(first_array(value).shape[0])


def take_rows(value: Any, start: int, end: int) -> Any:
    """Return rows from `start` up to `end` of each array of `value`."""
    return map_arrays(lambda a: a[start:end, ...], value)


def concat_rows(values: Sequence[Any], owner: str) -> Any:
    """Return the rows of several values of one form, one after another.

    Raises
    ------
    ShapeError
        If they are not of one form: tuples of as many parts, dicts of the same keys, or arrays.
    """
    first = values[0]
    if not is_structure(first) and not any(map(is_structure, values)):
        return array_namespace(*values, owner=owner).concat(list(values), axis=0)
    form = _form(first)
    for value in values:
        if _form(value) != form:
            raise ShapeError(f"{owner}: {form} and {_form(value)} do not go together; give all of one form")
    if isinstance(first, tuple):
        return tuple(concat_rows(parts, owner) for parts in zip(*values, strict=True))
    return {key: concat_rows([value[key] for value in values], owner) for key in first}


def _form(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"a dict of {', '.join(sorted(map(repr, value)))}" if isinstance(value, Mapping) else "an array"


def require_arrays(value: Any, owner: str) -> None:
    """Refuse what is neither an array nor a tuple or dict of arrays of one library and device."""
    arrays = [array for _, array in arrays_of(value)]
    if not arrays or not all(map(is_array, arrays)):
        raise TypeError(f"{owner}: expected an array, or a tuple or dict of arrays, got {value!r}")
    array_namespace(*arrays, owner=owner)
