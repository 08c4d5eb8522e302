"""Gradients by central differences: to learn from, and to check backward passes with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

from xpdl.backends.graphs import no_graph
from xpdl.backends.namespaces import (
    Array,
    Namespace,
    array_namespace,
    copied,
    device,
    dtype_name,
    is_array,
    is_floating,
    is_half,
    is_writable,
    on_its_device,
    rounded_to,
    widened,
)
from xpdl.errors import DTypeError, ShapeError
from xpdl.ops.checks import function, int_at_least, number

# Twice the step should be near the cube root of the machine epsilon; float64 keeps the book's 1e-4.
_STEPS = {"float64": 1e-4, "float32": 5e-3, "float16": 0.1, "bfloat16": 0.2}
# Up to this size of a value it is more than some roundings of the value.
_UNSCALED = 16.0
_LARGEST = 1e30


@on_its_device
def numerical_diff(f: Callable[[Any], Any], x: Any) -> Any:
    """Central difference ``(f(x + h) - f(x - h)) / 2h`` of a function of one variable (the book's ch. 4.3).

    Parameters
    ----------
    f : callable
        Takes and returns a number, or an array elementwise.
    x : float or array
        h is 1e-4 for Python numbers and float64, and 5e-3 for float32, where 1e-4 would drown in rounding. Half precision is
        given to `f` in float32.

    Examples
    --------
    >>> round(numerical_diff(lambda x: 0.01 * x**2 + 0.1 * x, 5), 6)
    0.2
    """
    function(f, "f", "numerical_diff")
    if not is_array(x):
        number(x, "x", "numerical_diff")
    floats = is_array(x) and hasattr(x, "dtype") and is_floating(x)
    wide = widened(x) if floats else x
    h = _step(wide) if floats else 1e-4
    slope = (f(wide + h) - f(wide - h)) / (2 * h)
    return rounded_to(x.dtype, slope) if is_half(x) and is_array(slope) else slope


@on_its_device
def numerical_gradient(f: Callable[[Array], Any], x: Array) -> Array:
    """Gradient of a scalar function by central differences, one element at a time (the book's ch. 4.4).

    Parameters
    ----------
    f : callable
        Takes `x` and returns a number or an array of one element.
    x : floating array of any shape, of any library
        Where the library can write, `x` itself is changed element by element while `f` runs, and restored also when `f`
        raises. So `f` may ignore its argument and read a network's own weights, as ``lambda W: net.loss(x, t)`` does. On
        immutable arrays `f` is given changed copies.

    Returns
    -------
    array
        Shape, dtype, library and device of `x`. The step is 1e-4 in float64 and 5e-3 in float32: the book's fixed 1e-4 in
        float32 gives noise. It grows with values above 16, where it would be lost in their rounding.

    Raises
    ------
    DTypeError
        If `x` holds integers, where a step of 1e-4 would be lost.
    ShapeError
        If `f` returns more than one element.

    Examples
    --------
    >>> numerical_gradient(lambda x: np.sum(x**2), np.array([3.0, 4.0])).round(6)
    array([6., 8.])
    """
    function(f, "f", "numerical_gradient")
    xp = array_namespace(x, owner="numerical_gradient")
    if not is_floating(x):
        raise DTypeError(
            f"numerical_gradient: expected a floating array, got {dtype_name(x.dtype)}; pass floats, such as "
            "np.array([3.0, 4.0])"
        )
    slopes = []
    with no_graph(x):
        for index in _indices(x.shape):
            h = _step(x) * max(1.0, min(abs(float(x[index])), _LARGEST) / _UNSCALED)
            (above, right), (below, left) = (_value_at(xp, f, x, index, step) for step in (h, -h))
            # the two points after rounding
            slopes.append((above - below) / (right - left if right > left else 2 * h))
    return xp.reshape(xp.asarray(slopes, dtype=x.dtype, device=device(x)), x.shape)


def _step(x: Array) -> float:
    return _STEPS.get(dtype_name(x.dtype), 1e-4)


def _indices(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(size) for size in shape))


def _value_at(
    xp: Namespace, f: Callable[[Array], Any], x: Array, index: tuple[int, ...], step: float
) -> tuple[float, float]:
    """``float(f(x))`` with one element of `x` moved by `step`, and where that is then."""
    if not is_writable(x):
        flat = [0.0] * math.prod(x.shape)
        flat[_flat(index, x.shape)] = step
        moved = x + xp.reshape(xp.asarray(flat, dtype=x.dtype, device=device(x)), x.shape)
        return _number(f(moved)), float(moved[index])
    # a copy: indexing may give a view of the element that is about to change
    before = copied(x[index])
    x[index] = before + step
    try:
        return _number(f(x)), float(x[index])
    finally:
        x[index] = before


def _number(value: Any) -> float:
    shape = tuple(getattr(value, "shape", ()))
    if math.prod(shape) != 1:
        raise ShapeError(f"numerical_gradient: f must return one number, such as a sum, got an array of shape {shape}")
    # float() takes arrays of rank 0 only
    return float(array_namespace(value).reshape(value, ()) if shape else value)


def _flat(index: tuple[int, ...], shape: tuple[int, ...]) -> int:
    place = 0
    for i, size in zip(index, shape, strict=True):
        place = place * size + i
    return place


@on_its_device
def gradient_descent(f: Callable[[Array], Any], init_x: Array, lr: float = 0.01, step_num: int = 100) -> Array:
    """Minimise `f` by ``x <- x - lr * numerical_gradient(f, x)``, `step_num` times (the book's ch. 4.4.1).

    Parameters
    ----------
    f : callable
        As in `numerical_gradient`.
    init_x : floating array
        Where to start; not modified, while the book's function moves its caller's array.
    lr : float
    step_num : int

    Returns
    -------
    array
        The last point.

    Examples
    --------
    >>> gradient_descent(lambda x: np.sum(x**2), np.array([-3.0, 4.0]), lr=0.1).round(6) + 0.0
    array([0., 0.])
    """
    function(f, "f", "gradient_descent")
    lr = number(lr, "lr", "gradient_descent", "at least 0")
    step_num = int_at_least(0, step_num, "step_num", "gradient_descent")
    array_namespace(init_x, owner="gradient_descent")
    x = copied(init_x)
    for _ in range(step_num):
        x = x - lr * numerical_gradient(f, x)
    return x
