"""Checks that ops and layers share; each failure is one error naming what came, what was expected and the cure."""

from __future__ import annotations

import math
import numbers
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from xpdl.backends import asnumpy
from xpdl.backends.dtypes import default_float
from xpdl.backends.graphs import has_compiled_ops
from xpdl.backends.namespaces import (
    Array,
    array_namespace,
    dtype_name,
    is_floating,
    is_floating_beside,
    is_host,
)
from xpdl.backends.readable import is_readable
from xpdl.errors import DTypeError, LabelError, ShapeError

_AXES = {2: "a pair of ints", 3: "three ints"}


def along_axes(value: Any, name: str, owner: str, minimum: int, rank: int) -> tuple[int, ...]:
    """`value` as one int for each of `rank` axes: an int stands for all."""
    try:
        items = tuple(value) if isinstance(value, Iterable) else (value,) * rank
        found = tuple(operator.index(item) for item in items)
    except TypeError:
        found = ()
    if len(found) != rank:
        raise ShapeError(f"{owner}: {name} must be an int or {_AXES.get(rank, 'one in a tuple')}, got {value!r}")
    if any(isinstance(item, bool) for item in items) or min(found) < minimum:
        raise ShapeError(f"{owner}: {name} must be at least {minimum}, got {value!r}")
    return found


def pair(value: Any, name: str, owner: str, minimum: int) -> tuple[int, int]:
    """`value` as (height, width): an int stands for both."""
    height, width = along_axes(value, name, owner, minimum, 2)
    return height, width


def int_at_least(minimum: int, value: Any, name: str, owner: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = minimum - 1
    if isinstance(value, bool) or number < minimum:
        raise ShapeError(f"{owner}: {name} must be an int of at least {minimum}, got {value!r}")
    return number


def integer(value: Any, name: str, owner: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if isinstance(value, bool) or number is None:
        raise ShapeError(f"{owner}: {name} must be an int, got {value!r}")
    return number


def row_axis(axis: int, ndim: int, owner: str) -> int:
    """Return an axis of the rows of a batch with `ndim` axes, counted from the first one, which is that of the batch."""
    found = axis + ndim if axis < 0 else axis
    if not 0 < found < ndim:
        raise ShapeError(
            f"{owner}: axis {axis} is none of the axes 1 to {ndim - 1} of rows, got a batch of {ndim} axes"
        )
    return found


def positive_int(value: Any, name: str, owner: str) -> int:
    return int_at_least(1, value, name, owner)


def sizes(value: Any, name: str, owner: str) -> tuple[int, ...]:
    """`value`, a sequence of positive ints, as a tuple."""
    return ints(value, name, owner)


def ints(value: Any, name: str, owner: str, minimum: int = 1) -> tuple[int, ...]:
    """`value`, a sequence of ints of at least `minimum`, as a tuple."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ShapeError(f"{owner}: {name} must be a sequence of ints, got {value!r}")
    return tuple(int_at_least(minimum, size, f"each of {name}", owner) for size in value)


#: bounds that finite numbers may be asked to meet
BOUNDS: dict[str, Callable[[float], bool]] = {
    "": math.isfinite,
    "at least 0": lambda value: 0 <= value < math.inf,
    "in [0, 1)": lambda value: 0 <= value < 1,
    "in [0, 1]": lambda value: 0 <= value <= 1,
    "in (0, 1)": lambda value: 0 < value < 1,
    "in (0, 0.5)": lambda value: 0 < value < 0.5,
    "positive": lambda value: 0 < value < math.inf,
}


def number(value: Any, name: str, owner: str, bounds: str = "", *, optional: bool = False) -> float:
    """`value` as a float, Python's own: a NumPy float in a formula would turn float32 arrays into float64.

    `ValueError` when it is no number or not what `BOUNDS` says of it; `optional` is for the message alone.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        result = float(value) if is_number else math.nan  # NaN lies in no bounds
    except OverflowError:  # of an int
        result = math.inf
    if BOUNDS[bounds](result):
        return result
    choice = " or None" if optional else ""
    raise ValueError(f"{owner}: {name} must be a finite number{bounds and f' {bounds}'}{choice}, got {value!r}")


def class_weights_of(values: Any, owner: str) -> list[float]:
    """`values`, a sequence of numbers of at least 0 and not all 0, as a list."""
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        raise TypeError(f"{owner}: class_weights must be a sequence of numbers, one for each class, got {values!r}")
    found = [number(value, "each of class_weights", owner, "at least 0") for value in values]
    if not any(found):
        raise ValueError(f"{owner}: class_weights must have a number above 0, got {values!r}")
    return found


def function(value: Any, name: str, owner: str) -> Any:
    """`value` itself, which can be called."""
    if callable(value):
        return value
    raise TypeError(f"{owner}: {name} must be a function, got {value!r}")


def path_like(value: Any, name: str, owner: str) -> str:
    """`value`, the name of a file or folder, as a string."""
    try:
        return os.fsdecode(value)
    except TypeError:
        raise TypeError(f"{owner}: {name} must be a path, got {value!r}") from None


def flag(value: Any, name: str, owner: str) -> bool:
    """`value`, True or False; `TypeError` for what could only be taken for one of them."""
    if isinstance(value, bool):
        return value
    raise TypeError(f"{owner}: {name} must be True or False, got {value!r}")


def require_floating(x: Array, owner: str) -> None:
    if is_floating_beside(x):
        return
    array_namespace(x, owner=owner)
    if not is_floating(x):
        raise DTypeError(
            f"{owner}: expected a floating array, got {dtype_name(x.dtype)}; "
            "convert it with xpdl.asarray(x, dtype='float32') (images: divide by 255)"
        )


def require_rank(x: Array, rank: int, owner: str, layout: str) -> None:
    if x.ndim != rank:
        raise ShapeError(f"{owner}: expected {layout}, an array of rank {rank}, got shape {tuple(x.shape)}")


def require_shape(x: Array, shape: tuple[int | None, ...], owner: str, what: str) -> None:
    if tuple(x.shape) != tuple(shape):
        raise ShapeError(f"{owner}: {what} must have shape {tuple(shape)}, got {tuple(x.shape)}")


def axis_of_rows(axis: Any, owner: str) -> int:
    """`axis`, an int other than 0, which counts rows."""
    try:
        found = operator.index(axis)
    except TypeError:
        found = 0
    if isinstance(axis, bool) or found == 0:
        raise ShapeError(f"{owner}: axis must be an int other than 0, along which rows lie, got {axis!r}")
    return found


def require_scores(x: Array, owner: str, axis: int = -1) -> None:
    """At least one value along `axis`, over which a softmax goes."""
    if not -x.ndim <= axis < x.ndim or x.shape[axis] == 0:
        where = "the last axis" if axis == -1 else f"axis {axis}"
        raise ShapeError(f"{owner}: expected at least one score along {where}, got shape {tuple(x.shape)}")


def as_floating(x: Array, owner: str = "") -> Array:
    """`x` itself, or integers and booleans cast to their library's default floating dtype; `DTypeError` for others."""
    if is_floating_beside(x):
        return x
    xp = array_namespace(x, owner=owner)
    if is_floating(x):
        return x
    if not xp.isdtype(x.dtype, ("integral", "bool")):
        prefix = f"{owner}: " if owner else ""
        raise DTypeError(f"{prefix}expected real numbers, got {dtype_name(x.dtype)}; pass floats")
    return xp.astype(x, default_float(xp, x))


def label_rows(t: Array, x: Array) -> Array:
    """Integer labels in a column (N, 1), as the book's ch. 7 has them, as (N,); other targets of scores `x` as they are.

    With several classes a row of one value cannot be one-hot.
    """
    column = t.ndim == x.ndim and t.ndim > 0 and t.shape[-1] == 1 != x.shape[-1]
    return t[..., 0] if column and array_namespace(t).isdtype(t.dtype, "integral") else t


def require_labels(t: Array, classes: int, owner: str) -> None:
    """Integer labels in ``[0, classes)``; the range is checked where reading it waits for no device."""
    xp = array_namespace(t)
    if not xp.isdtype(t.dtype, "integral"):
        raise DTypeError(
            f"{owner}: labels must be integers, got {dtype_name(t.dtype)}; cast them, or pass one-hot rows"
        )
    if is_readable(t):
        require_range(t if is_host(t) else asnumpy(t), classes, owner)


def require_labels_before_compiling(x: Array, t: Array, owner: str) -> None:
    """Check the range of labels for scores `x` (N, K) where ops are compiled, in which labels have no values."""
    if has_compiled_ops(t) and t.shape == x.shape[:-1]:
        require_labels(t, x.shape[-1], owner)


def require_range(t: Any, classes: int, owner: str) -> None:
    """Raise `LabelError` for the first label of a host array that is not in ``[0, classes)``."""
    if t.size and (t.min() < 0 or t.max() >= classes):  # two reductions, without an array of flags
        labels = t.ravel().tolist()
        row = next(row for row, label in enumerate(labels) if not 0 <= label < classes)
        padding = "; SoftmaxWithLoss(ignore_label=-1) leaves padding out" if labels[row] == -1 else ""
        raise LabelError(
            f"{owner}: label {labels[row]} of row {row} is not one of the {classes} classes 0 to {classes - 1}; labels "
            f"count from 0, and there is an output for each class{padding}"
        )


def is_finite(a: Array) -> bool:
    """Return whether no value is NaN or infinite; one value is read from a device."""
    if is_host(a):  # extremes, in which NaN wins, take no memory and half the time
        return not a.size or (math.isfinite(a.max()) and math.isfinite(a.min()))
    xp = array_namespace(a)
    return bool(xp.all(xp.isfinite(a)))
