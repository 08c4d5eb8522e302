"""Tables, lists and named labels as arrays of the host."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpdl.backends.arrays import Array, NDArray
from xpdl.backends.namespaces import array_namespace, is_array
from xpdl.backends.subclasses import array_cure
from xpdl.errors import LabelError, ShapeError

# kinds of dtypes that are numbers or booleans
_NUMBERS = "biuf"
_STRINGS = "UST"


def is_table(value: Any) -> bool:
    """Return whether `value` is a DataFrame or Series, of pandas for example."""
    return not is_array(value) and not isinstance(value, type) and callable(getattr(value, "to_numpy", None))


def as_array(value: Any, name: str) -> Array:
    """Return rows as an array: arrays as they are, lists, and the columns of a table; nothing is rounded.

    Parameters
    ----------
    value : array, list of numbers, rows or arrays, DataFrame or Series
        The columns of a table get their common dtype; a missing number is NaN.
    name : str
        Of the argument, for messages: ``"Trainer: x_train"``.

    Returns
    -------
    array (N, ...)
        Strings and booleans, which labels may be, stay such.

    Raises
    ------
    TypeError
        If a column holds no numbers, or `value` is something else.
    ShapeError
        If the rows of a list differ in length.
    """
    if is_array(value):
        return without_objects(value)
    if is_table(value):
        return _column(value, name) if len(value.shape) == 1 else _columns(value, name)
    if isinstance(value, list):
        return _of_list(value, name)
    raise TypeError(
        f"{name} must be an array of rows, a list, or a table such as a DataFrame, got {type(value).__name__}"
        f"{f'; {array_cure(value)}' if isinstance(value, str) else ''}"
    )


def without_objects(array: Array) -> Array:
    """Return numbers that are stored as Python objects as int64 or float64, and any other array as it is."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "O" or not array.size:
        return array
    values = [one for one in array.flat if not isinstance(one, bool)]
    for kind, dtype in ((numbers.Integral, np.int64), (numbers.Real, np.float64)):
        if len(values) == array.size and all(isinstance(one, kind) for one in values):
            return array.astype(dtype)
    return array


def as_numbers(value: Any, name: str) -> Array:
    """Return rows as `as_array` does, and refuse strings and other objects."""
    return require_numbers(as_array(value, name), name)


def require_numbers(array: Array, name: str) -> Array:
    """Return an array of numbers or booleans as it is.

    Raises
    ------
    TypeError
        If it holds something else.
    """
    if isinstance(array, np.ndarray) and array.dtype.kind not in _NUMBERS:
        raise TypeError(
            f"{name} must be numbers, got {array.dtype}; encode categories one-hot, and texts with xpdl.Vocabulary"
        )
    return array


def as_features(value: Any, name: str) -> Array:
    """Return rows as `as_numbers` does, whole numbers and booleans of a table or list as float64."""
    array = as_numbers(value, name)
    return array.astype(np.float64) if array is not value and array.dtype.kind in "biu" else array


def rows(x: Any, name: str) -> Any:
    """Return a list or table as `as_features` does, and anything else as it is."""
    return as_features(x, name) if isinstance(x, list) or is_table(x) else x


def labels(t: Any, names: Sequence[str] | None, name: str) -> Any:
    """Return labels of a list or table as an array, and names as their places in `names`; anything else as it is."""
    t = as_array(t, name) if isinstance(t, list) or is_table(t) else t
    return class_numbers(t, names, name) if names is not None and is_array(t) and has_names(t) else t


def has_names(t: Array) -> bool:
    """Return whether labels are strings, or booleans (N,), which stand for classes."""
    return is_words(t) or (t.ndim == 1 and bool(array_namespace(t).isdtype(t.dtype, "bool")))


def is_words(t: Array) -> bool:
    """Return whether an array holds strings or other objects."""
    return isinstance(t, np.ndarray) and t.dtype.kind in _STRINGS + "O"


def class_names(t: Any, name: str) -> list[str]:
    """Return the names of the classes in labels: the categories of a Series, or else all that there are, sorted."""
    if (categories := _categories(t)) is not None:
        return categories
    return sorted(set(_words(as_array(t, name), name)))


def class_numbers(t: Any, names: Sequence[str], name: str) -> NDArray:
    """Return the place of each label in `names`, as int64 (N,).

    Raises
    ------
    LabelError
        If a label is missing, or is not among `names`, and says which row; or if one of `names` is there twice.
    """
    if len(set(names)) < len(names):
        raise LabelError(f"{name}: a class is named twice, class_names={list(names)}; give each a name of its own")
    places = {one: place for place, one in enumerate(names)}
    words = _words(as_array(t, name), name)
    for row, word in enumerate(words):
        if word not in places:
            raise LabelError(f"{name}: {word!r} in row {row} is none of the classes {', '.join(map(str, names))}")
    return np.asarray([places[word] for word in words], dtype=np.int64)


def require_aligned(x: Any, t: Any, x_name: str, t_name: str) -> None:
    """Refuse two tables whose rows have the same names in another order.

    Raises
    ------
    ShapeError
        If they have.
    """
    if not (hasattr(getattr(x, "index", None), "equals") and hasattr(getattr(t, "index", None), "equals")):
        return
    if not x.index.equals(t.index) and x.index.sort_values().equals(t.index.sort_values()):
        raise ShapeError(f"{x_name} and {t_name} have the same index in another order; align them, by t.loc[x.index]")


def _words(t: Array, name: str) -> list[str]:
    """The labels (N,) or (N, 1) as strings."""
    if not isinstance(t, np.ndarray):
        t = np.asarray([bool(one) for one in t])
    if t.ndim == 2 and t.shape[1] == 1:
        t = t[:, 0]
    if t.ndim != 1:
        raise ShapeError(f"{name}: names of classes must have the shape (N,), got {t.shape}")
    values = np.char.decode(t).tolist() if t.dtype.kind == "S" else t.tolist()
    kind = bool if all(isinstance(one, bool) for one in values) else str
    for row, one in enumerate(values):
        if not isinstance(one, kind):
            # the NA of pandas has no truth value
            is_missing = one is None or type(one).__name__ == "NAType" or one != one
            wrong = (
                "has no label" if is_missing else "is no string as others are; labels are all strings, or all integers"
            )
            raise LabelError(f"{name}: row {row}, {one!r}, {wrong}")
    return [str(one) for one in values]


def _categories(t: Any) -> list[str] | None:
    """The names of the categories of a Series, used or not, in their order; None of another one."""
    categories = getattr(getattr(t, "dtype", None), "categories", None)
    if categories is None or not callable(getattr(categories, "tolist", None)):
        return None
    return [str(one) for one in categories.tolist()]


def _of_list(value: list[Any], name: str) -> Array:
    if value and all(is_array(one) for one in value):
        _require_one_shape(value, name)
        return array_namespace(*value, owner=name).stack(value)
    try:
        # NumPy would make strings of numbers beside strings
        array = np.asarray(value, dtype=object if any(isinstance(one, str) for one in value) else None)
    except ValueError:
        _require_one_shape(value, name)
        raise ShapeError(f"{name}: the rows of the list differ in length") from None
    return array


def _require_one_shape(rows: list[Any], name: str) -> None:
    """Refuse rows of a list that make no array together, and say what two of them are."""
    shapes = [_shape(row) for row in rows]
    other = next((place for place, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is None and shapes[0] is not None:
        return
    words = [
        f"{type(rows[place]).__name__} of {'parts that differ' if shapes[place] is None else f'shape {shapes[place]}'}"
        for place in (0, other)
        if place is not None
    ]
    raise ShapeError(f"{name}: the entries of a list are its rows, of one shape, got {' beside '.join(words)}")


def _shape(row: Any) -> tuple[int, ...] | None:
    """Return the shape of an array, a number or a list of them; None of a list that makes no array."""
    if is_array(row):
        return tuple(row.shape)
    try:
        return np.shape(row)
    except ValueError:
        return None


def _columns(table: Any, name: str) -> NDArray:
    array = table.to_numpy()
    if array.dtype.kind in _NUMBERS:
        return np.asarray(array)
    columns = columns_of(table)
    if len(columns) == 1 and _is_named(columns[0][1]):
        return _column(columns[0][1], name)
    wrong = [f"{column!r} ({values.dtype})" for column, values in columns if _holds_no_numbers(values)]
    if wrong:
        raise TypeError(
            f"{name}: the columns {', '.join(wrong)} hold no numbers; encode them, for example by pandas.get_dummies"
        )
    return np.column_stack([_column(values, name) for _, values in columns])


def columns_of(table: Any) -> list[tuple[str, Any]]:
    """Return the columns of a DataFrame with their names, which several may share."""
    by_place = getattr(table, "iloc", None)
    return [
        (str(column), table[column] if by_place is None else by_place[:, place])
        for place, column in enumerate(table.columns)
    ]


def _is_named(column: Any) -> bool:
    return getattr(column.dtype, "kind", "O") not in _NUMBERS


def _holds_no_numbers(column: Any) -> bool:
    return _is_named(column) and without_objects(np.asarray(column.to_numpy())).dtype.kind not in _NUMBERS


def _column(column: Any, name: str) -> NDArray:
    array = np.asarray(column.to_numpy())
    if array.dtype.kind == "O" and not _is_named(column):  # with numbers that are missing
        return np.asarray(column.to_numpy(dtype="float64", na_value=np.nan))
    if array.dtype.kind == "O" or array.dtype.kind in _NUMBERS + _STRINGS:
        return without_objects(array)
    raise TypeError(f"{name}: a column of {column.dtype} holds no numbers; encode it")
